use std::fmt;

use crate::data::{Text, Value};
use crate::func::Func;
use crate::sql::{BinaryOp, UnaryOp};

/// An expression whose names are slots. Plain data: equal text means equal behaviour.
#[derive(Clone)]
pub enum Bound {
    Const(Value),
    /// A slot of the row, and the name that it is shown by.
    Slot(usize, Text),
    /// The row as an object, as `count(*)` and `collect(*)` take it.
    Row(Box<RowShape>),
    /// A metadata value by its path; an empty path is all metadata.
    Meta(Vec<Text>),
    /// The time of the row.
    RowTime,
    Member(Box<Bound>, Text),
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
    Call(&'static Func, Vec<Bound>),
}

/// Which slots make up `*`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowShape {
    pub columns: Vec<(Text, usize)>,
    /// Slot of the object that holds all other columns.
    pub rest: Option<usize>,
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
    /// Calls `visit` with this expression and all its parts, outermost first.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Bound)) {
        visit(self);
        match self {
            Bound::Const(_) | Bound::Slot(..) | Bound::Row(_) | Bound::Meta(_) | Bound::RowTime => {}
            Bound::Member(of, _) | Bound::Unary(_, of) | Bound::IsNull { of, .. } => of.walk(visit),
            Bound::Index(a, b) | Bound::Binary(_, a, b) => {
                a.walk(visit);
                b.walk(visit);
            }
            Bound::Slice(of, from, to) => {
                of.walk(visit);
                from.iter().chain(to).for_each(|bound| bound.walk(visit));
            }
            Bound::Between { of, low, high, .. } => [of, low, high].into_iter().for_each(|part| part.walk(visit)),
            Bound::InList { of, list, .. } => {
                of.walk(visit);
                list.iter().for_each(|part| part.walk(visit));
            }
            Bound::InArray { of, array, .. } => {
                of.walk(visit);
                array.walk(visit);
            }
            Bound::Like { of, pattern, .. } => {
                of.walk(visit);
                pattern.walk(visit);
            }
            Bound::Case { subject, branches, otherwise } => {
                subject.iter().for_each(|part| part.walk(visit));
                for (when, then) in branches {
                    when.walk(visit);
                    then.walk(visit);
                }
                otherwise.iter().for_each(|part| part.walk(visit));
            }
            Bound::Call(_, args) => args.iter().for_each(|part| part.walk(visit)),
        }
    }

    /// Calls `visit` with each direct part of the expression, to be changed in place.
    pub fn parts_mut(&mut self, visit: &mut dyn FnMut(&mut Bound)) {
        match self {
            Bound::Const(_) | Bound::Slot(..) | Bound::Row(_) | Bound::Meta(_) | Bound::RowTime => {}
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
            Bound::Call(_, args) => args.iter_mut().for_each(visit),
        }
    }

    /// Whether it reads metadata anywhere.
    pub fn reads_meta(&self) -> bool {
        let mut found = false;
        self.walk(&mut |part| found |= matches!(part, Bound::Meta(_)));
        found
    }

    /// The slots that it reads.
    pub fn slots(&self) -> Vec<usize> {
        let mut slots = Vec::new();
        self.walk(&mut |part| match part {
            Bound::Slot(slot, _) => slots.push(*slot),
            Bound::Row(shape) => {
                slots.extend(shape.columns.iter().map(|(_, slot)| *slot));
                slots.extend(shape.rest);
            }
            _ => {}
        });
        slots
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negated: bool| if negated { "NOT " } else { "" };
        match self {
            Bound::Const(Value::Text(text)) => write!(f, "{:?}", text.as_str()),
            Bound::Const(Value::Absent | Value::Null) => f.write_str("NULL"),
            Bound::Const(value) => f.write_str(&value.print()),
            Bound::Slot(_, name) => f.write_str(name),
            Bound::Row(_) => f.write_str("*"),
            Bound::Meta(path) if path.is_empty() => f.write_str("meta(*)"),
            Bound::Meta(path) => write!(f, "meta({})", path.join("->")),
            Bound::RowTime => f.write_str("event_time()"),
            Bound::Member(of, name) => write!(f, "{of}->{name}"),
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
            Bound::Call(func, args) => {
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

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
