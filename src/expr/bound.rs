use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::data::{Text, Value};
use crate::func::{Body, Func};
use crate::sql::{BinaryOp, UnaryOp};

/// An expression whose names are slots. Plain data: equal text means equal behaviour.
#[derive(Clone)]
pub enum Bound {
    Const(Value),
    /// A slot of the row, and the name that it is shown by.
    Slot(usize, Text),
    /// A select alias: the slot that its value was put into beforehand, its name, and its expression. The slot is
    /// absent where the expression failed; then who reads it meets the error, and only who reads it.
    Alias(usize, Text, Arc<Bound>),
    /// The row as an object, as `count(*)` and `collect(*)` take it.
    Row(Box<RowShape>),
    /// A row with values of its own under some names, in the order written: `* REPLACE (…)` as an argument.
    Replaced(Box<Bound>, Vec<(Text, Bound)>),
    /// A metadata value by its path; an empty path is all metadata.
    Meta(Path),
    /// The time of the row.
    RowTime,
    Member(Box<Bound>, Key),
    Index(Box<Bound>, Box<Bound>),
    Slice(Box<Bound>, Option<Box<Bound>>, Option<Box<Bound>>),
    Unary(UnaryOp, Box<Bound>),
    Binary(BinaryOp, Box<Bound>, Box<Bound>),
    Between {
        of: Box<Bound>,
        low: Box<Bound>,
        high: Box<Bound>,
        negated: bool,
    },
    InList {
        of: Box<Bound>,
        list: Vec<Bound>,
        negated: bool,
    },
    InArray {
        of: Box<Bound>,
        array: Box<Bound>,
        negated: bool,
    },
    Like {
        of: Box<Bound>,
        pattern: Box<Bound>,
        negated: bool,
    },
    IsNull {
        of: Box<Bound>,
        negated: bool,
    },
    Case {
        subject: Option<Box<Bound>>,
        branches: Vec<(Bound, Bound)>,
        otherwise: Option<Box<Bound>>,
    },
    /// With the number of the call in the statement, where it is of a plugin's function.
    Call(&'static Func, Vec<Bound>, u64),
}

/// The name of an entry of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub name: Text,
    /// An entry whose name differs by case is taken where there is none of exactly that name (`basic.ignoreCase`).
    pub any_case: bool,
}

/// Where a metadata value lies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path {
    /// Outermost first.
    pub names: Vec<Text>,
    /// As in [`Key`].
    pub any_case: bool,
}

/// Which slots make up `*`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowShape {
    pub columns: Vec<(Text, usize)>,
    /// Slots of the objects that hold all other columns; the first that has a name counts.
    pub rest: Vec<usize>,
    /// Names left out.
    pub except: Vec<Text>,
}

/// Slots that get the bounds of the window, where the statement asks for them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    pub start: Option<usize>,
    pub end: Option<usize>,
    pub trigger: Option<usize>,
}

impl Bound {
    /// Calls `visit` with each direct part of the expression. The expression of an alias is no part of its reader.
    pub fn parts<'a>(&'a self, visit: &mut dyn FnMut(&'a Bound)) {
        match self {
            Bound::Const(_) | Bound::Slot(..) | Bound::Alias(..) | Bound::Row(_) | Bound::Meta(_) | Bound::RowTime => {}
            Bound::Member(of, _) | Bound::Unary(_, of) | Bound::IsNull { of, .. } => visit(of),
            Bound::Index(a, b) | Bound::Binary(_, a, b) => {
                visit(a);
                visit(b);
            }
            Bound::Slice(of, from, to) => {
                visit(of);
                from.iter().chain(to).for_each(|bound| visit(bound));
            }
            Bound::Between { of, low, high, .. } => [of, low, high].into_iter().for_each(|part| visit(part)),
            Bound::InList { of, list, .. } => {
                visit(of);
                list.iter().for_each(visit);
            }
            Bound::InArray { of, array, .. } => {
                visit(of);
                visit(array);
            }
            Bound::Like { of, pattern, .. } => {
                visit(of);
                visit(pattern);
            }
            Bound::Case { subject, branches, otherwise } => {
                subject.iter().for_each(|part| visit(part));
                for (when, then) in branches {
                    visit(when);
                    visit(then);
                }
                otherwise.iter().for_each(|part| visit(part));
            }
            Bound::Call(_, args, _) => args.iter().for_each(visit),
            Bound::Replaced(row, values) => {
                visit(row);
                values.iter().for_each(|(_, value)| visit(value));
            }
        }
    }

    /// Calls `visit` with this expression and all its parts, outermost first.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Bound)) {
        visit(self);
        self.parts(&mut |part| part.walk(visit));
    }

    /// Whether something in it is of that kind.
    pub fn any(&self, is: &dyn Fn(&Bound) -> bool) -> bool {
        let mut found = false;
        self.walk(&mut |part| found |= is(part));
        found
    }

    /// Whether evaluating it twice over one row gives the same twice and changes nothing.
    pub fn is_pure(&self) -> bool {
        !self.any(&|part| matches!(part, Bound::Call(func, ..) if !func.pure || !matches!(func.body, Body::Scalar(_))))
    }

    /// Calls `visit` with each direct part of the expression, to be changed in place. The expression of an alias is
    /// shared by its readers and is no part of them.
    pub fn parts_mut(&mut self, visit: &mut dyn FnMut(&mut Bound)) {
        match self {
            Bound::Const(_) | Bound::Slot(..) | Bound::Alias(..) | Bound::Row(_) | Bound::Meta(_) | Bound::RowTime => {}
            Bound::Member(of, _) | Bound::Unary(_, of) | Bound::IsNull { of, .. } => visit(of),
            Bound::Index(a, b) | Bound::Binary(_, a, b) => [a, b].into_iter().for_each(|part| visit(part)),
            Bound::Slice(of, from, to) => {
                visit(of);
                from.iter_mut().chain(to).for_each(|bound| visit(bound));
            }
            Bound::Between { of, low, high, .. } => [of, low, high].into_iter().for_each(|part| visit(part)),
            Bound::InList { of, list, .. } => {
                visit(of);
                list.iter_mut().for_each(visit);
            }
            Bound::InArray { of, array, .. } => [of, array].into_iter().for_each(|part| visit(part)),
            Bound::Like { of, pattern, .. } => [of, pattern].into_iter().for_each(|part| visit(part)),
            Bound::Case { subject, branches, otherwise } => {
                subject.iter_mut().for_each(|part| visit(part));
                for (when, then) in branches {
                    visit(when);
                    visit(then);
                }
                otherwise.iter_mut().for_each(|part| visit(part));
            }
            Bound::Call(_, args, _) => args.iter_mut().for_each(visit),
            Bound::Replaced(row, values) => {
                visit(row);
                values.iter_mut().for_each(|(_, value)| visit(value));
            }
        }
    }

    /// Whether it reads metadata anywhere.
    pub fn reads_meta(&self) -> bool {
        self.any(&|part| matches!(part, Bound::Meta(_)))
    }

    /// The slots that it reads, also those that it reads by way of an alias.
    pub fn slots(&self) -> Vec<usize> {
        let mut slots = Vec::new();
        self.add_slots(&mut slots, &mut HashSet::new());
        slots
    }

    fn add_slots(&self, slots: &mut Vec<usize>, aliases: &mut HashSet<usize>) {
        self.walk(&mut |part| match part {
            Bound::Slot(slot, _) => slots.push(*slot),
            // An alias that many others read is looked into once.
            Bound::Alias(slot, _, of) if aliases.insert(*slot) => {
                slots.push(*slot);
                of.add_slots(slots, aliases);
            }
            Bound::Row(shape) => {
                slots.extend(shape.columns.iter().map(|(_, slot)| *slot));
                slots.extend(&shape.rest);
            }
            _ => {}
        });
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negated: bool| if negated { "NOT " } else { "" };
        match self {
            Bound::Const(Value::Text(text)) => write!(f, "{:?}", text.as_str()),
            Bound::Const(Value::Absent | Value::Null) => f.write_str("NULL"),
            Bound::Const(value) => f.write_str(&value.print()),
            Bound::Slot(_, name) | Bound::Alias(_, name, _) => f.write_str(name),
            Bound::Row(shape) if shape.except.is_empty() => f.write_str("*"),
            Bound::Row(shape) => write!(f, "* EXCEPT ({})", shape.except.join(", ")),
            Bound::Replaced(row, values) => {
                write!(f, "{row} REPLACE (")?;
                for (n, (name, value)) in values.iter().enumerate() {
                    write!(f, "{}{value} AS {name}", if n > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            Bound::Meta(path) if path.names.is_empty() => f.write_str("meta(*)"),
            Bound::Meta(path) => write!(f, "meta({})", path.names.join("->")),
            Bound::RowTime => f.write_str("event_time()"),
            Bound::Member(of, name) => write!(f, "{of}->{}", name.name),
            Bound::Index(of, index) => write!(f, "{of}[{index}]"),
            Bound::Slice(of, from, to) => {
                write!(f, "{of}[")?;
                from.iter().try_for_each(|bound| write!(f, "{bound}"))?;
                f.write_str(":")?;
                to.iter().try_for_each(|bound| write!(f, "{bound}"))?;
                f.write_str("]")
            }
            Bound::Unary(UnaryOp::Neg, of) => write!(f, "-{of}"),
            Bound::Unary(UnaryOp::Not, of) => write!(f, "NOT {of}"),
            Bound::Binary(op, a, b) => write!(f, "({a} {} {b})", op.symbol()),
            Bound::Between { of, low, high, negated } => write!(f, "({of} {}BETWEEN {low} AND {high})", not(*negated)),
            Bound::InList { of, list, negated } => {
                write!(f, "({of} {}IN (", not(*negated))?;
                write_list(f, list)?;
                f.write_str("))")
            }
            Bound::InArray { of, array, negated } => write!(f, "({of} {}IN {array})", not(*negated)),
            Bound::Like { of, pattern, negated } => write!(f, "({of} {}LIKE {pattern})", not(*negated)),
            Bound::IsNull { of, negated } => write!(f, "({of} IS {}NULL)", not(*negated)),
            Bound::Case { subject, branches, otherwise } => {
                f.write_str("CASE")?;
                subject.iter().try_for_each(|part| write!(f, " {part}"))?;
                for (when, then) in branches {
                    write!(f, " WHEN {when} THEN {then}")?;
                }
                otherwise.iter().try_for_each(|part| write!(f, " ELSE {part}"))?;
                f.write_str(" END")
            }
            Bound::Call(func, args, _) => {
                write!(f, "{}(", func.name)?;
                write_list(f, args)?;
                f.write_str(")")
            }
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, list: &[Bound]) -> fmt::Result {
    for (n, part) in list.iter().enumerate() {
        if n > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{part}")?;
    }
    Ok(())
}

/// Equal means that both give the same over every row. The names that slots are shown by do not count.
impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Bound::Const(a), Bound::Const(b)) => a == b,
            (Bound::Slot(a, _), Bound::Slot(b, _)) | (Bound::Alias(a, ..), Bound::Alias(b, ..)) => a == b,
            (Bound::Row(a), Bound::Row(b)) => a == b,
            (Bound::Replaced(a, b), Bound::Replaced(x, y)) => a == x && b == y,
            (Bound::Meta(a), Bound::Meta(b)) => a == b,
            (Bound::RowTime, Bound::RowTime) => true,
            (Bound::Member(a, x), Bound::Member(b, y)) => x == y && a == b,
            (Bound::Slice(a, b, c), Bound::Slice(x, y, z)) => a == x && b == y && c == z,
            (Bound::Unary(x, a), Bound::Unary(y, b)) => x == y && a == b,
            (Bound::Index(a, b), Bound::Index(x, y)) => a == x && b == y,
            (Bound::Binary(one, a, b), Bound::Binary(two, x, y)) => one == two && a == x && b == y,
            (Bound::Call(one, a, _), Bound::Call(two, b, _)) => std::ptr::eq(*one, *two) && a == b,
            (
                Bound::Case { subject: a, branches: b, otherwise: c },
                Bound::Case { subject: x, branches: y, otherwise: z },
            ) => a == x && b == y && c == z,
            (
                Bound::Between { of: a, low: b, high: c, negated: d },
                Bound::Between { of: w, low: x, high: y, negated: z },
            ) => d == z && a == w && b == x && c == y,
            (Bound::InList { of: a, list: b, negated: c }, Bound::InList { of: x, list: y, negated: z }) => {
                c == z && a == x && b == y
            }
            (Bound::InArray { of: a, array: b, negated: c }, Bound::InArray { of: x, array: y, negated: z })
            | (Bound::Like { of: a, pattern: b, negated: c }, Bound::Like { of: x, pattern: y, negated: z }) => {
                c == z && a == x && b == y
            }
            (Bound::IsNull { of: a, negated: b }, Bound::IsNull { of: x, negated: y }) => b == y && a == x,
            _ => false,
        }
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
