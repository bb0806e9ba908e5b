use crate::data::{Text, Time, Value};
use crate::diag::{Diagnostic, Span};
use crate::func::{Arg, Body, Catalogue, Func, RuleInfo, Special};
use crate::sql::{BinaryOp, Call, Expr, ExprNode, Field, Literal, UnaryOp, Wildcard, WindowKind};

use super::bound::{Bound, Key, Path, RowShape};
use super::compile::{Frame, Program};

/// What names mean where an expression stands.
pub trait Scope {
    /// A bare name.
    fn name(&mut self, name: &Text, span: Span) -> Result<Bound, Diagnostic>;

    /// `a.b`: a qualified column, or a member of column `a`.
    fn dotted(&mut self, first: &Text, second: &Text, span: Span) -> Result<Bound, Diagnostic>;

    /// Whether the name is a stream of the statement, so that `meta(a.b)` is key `b` of it and not part `b` of key `a`.
    fn is_source(&self, name: &Text) -> bool;

    /// A metadata value of a message, or, with a source before the key, of the part of a joined row that is of it.
    fn meta(&mut self, _source: Option<&Text>, path: Path) -> Bound {
        Bound::Meta(path)
    }

    /// Whether names of entries and of metadata fit whatever their case, where none fits exactly (`basic.ignoreCase`).
    fn any_case(&self) -> bool;

    /// `*` as an argument, without what REPLACE puts into it.
    fn wildcard(&mut self, wildcard: &Wildcard, span: Span) -> Result<RowShape, Diagnostic>;

    /// A call whose meaning needs the plan: an aggregate, a window bound, an analytic function.
    fn planned(&mut self, call: &Call, func: &'static Func, span: Span) -> Result<Bound, Vec<Diagnostic>>;

    /// The number of the next call of a plugin's function, from 0.
    fn number(&mut self) -> u64 {
        0
    }
}

/// Binds an expression; all findings are collected.
pub fn bind(expr: &Expr, scope: &mut dyn Scope, funcs: &Catalogue) -> Result<Bound, Vec<Diagnostic>> {
    let mut binder = Binder { scope, funcs, found: Vec::new() };
    let bound = binder.expr(expr);
    if binder.found.is_empty() { Ok(bound) } else { Err(binder.found) }
}

struct Binder<'a> {
    scope: &'a mut dyn Scope,
    funcs: &'a Catalogue,
    found: Vec<Diagnostic>,
}

impl Binder<'_> {
    /// Notes a finding and goes on with null, so that the rest is looked at too.
    fn fault(&mut self, found: Diagnostic) -> Bound {
        self.found.push(found);
        Bound::Const(Value::Null)
    }

    fn boxed(&mut self, expr: &Expr) -> Box<Bound> {
        Box::new(self.expr(expr))
    }

    fn list(&mut self, list: &[Expr]) -> Vec<Bound> {
        list.iter().map(|expr| self.expr(expr)).collect()
    }

    /// The row with what REPLACE puts into it.
    fn replaced(&mut self, row: Bound, wildcard: &Wildcard) -> Bound {
        if wildcard.replace.is_empty() {
            return row;
        }
        let mut values = Vec::with_capacity(wildcard.replace.len());
        for field in &wildcard.replace {
            let value = self.expr(&field.expr);
            match &field.alias {
                Some(alias) => values.push((alias.name.clone(), value)),
                None => self.found.push(nameless(field)),
            }
        }
        Bound::Replaced(Box::new(row), values)
    }

    fn expr(&mut self, expr: &Expr) -> Bound {
        let span = expr.span;
        match &expr.node {
            ExprNode::Literal(literal) => Bound::Const(constant(literal)),
            ExprNode::Unit(_) => Bound::Const(Value::Null),
            ExprNode::Name(name) => self.scope.name(name, span).unwrap_or_else(|found| self.fault(found)),
            ExprNode::Dotted(first, second) => {
                self.scope.dotted(first, second, span).unwrap_or_else(|found| self.fault(found))
            }
            ExprNode::Wildcard(wildcard) => match self.scope.wildcard(wildcard, span) {
                Ok(shape) => self.replaced(Bound::Row(Box::new(shape)), wildcard),
                Err(found) => self.fault(found),
            },
            ExprNode::Paren(inner) => self.expr(inner),
            ExprNode::Member(of, name) => {
                let any_case = self.scope.any_case();
                Bound::Member(self.boxed(of), Key { name: name.name.clone(), any_case })
            }
            ExprNode::Index(of, index) => Bound::Index(self.boxed(of), self.boxed(index)),
            ExprNode::Slice(of, from, to) => {
                let of = self.boxed(of);
                let from = from.as_ref().map(|bound| self.boxed(bound));
                let to = to.as_ref().map(|bound| self.boxed(bound));
                if let (Some(Bound::Const(Value::Int(a))), Some(Bound::Const(Value::Int(b)))) =
                    (from.as_deref(), to.as_deref())
                    && *a >= 0
                    && *b >= 0
                    && a >= b
                {
                    self.fault(
                        Diagnostic::error("K0207", format!("the slice [{a}:{b}] starts where it ends or later"))
                            .at(span)
                            .help("the end is exclusive, so it must be greater than the start"),
                    );
                }
                Bound::Slice(of, from, to)
            }
            ExprNode::Unary(op, of) => {
                let of = self.boxed(of);
                fold(Bound::Unary(*op, of))
            }
            ExprNode::Binary(op, a, b) => {
                let (a, b) = (self.boxed(a), self.boxed(b));
                fold(Bound::Binary(*op, a, b))
            }
            ExprNode::Between { expr, low, high, negated } => {
                Bound::Between { of: self.boxed(expr), low: self.boxed(low), high: self.boxed(high), negated: *negated }
            }
            ExprNode::InList { expr, list, negated } => {
                Bound::InList { of: self.boxed(expr), list: self.list(list), negated: *negated }
            }
            ExprNode::InArray { expr, array, negated } => {
                Bound::InArray { of: self.boxed(expr), array: self.boxed(array), negated: *negated }
            }
            ExprNode::Like { expr, pattern, negated } => {
                Bound::Like { of: self.boxed(expr), pattern: self.boxed(pattern), negated: *negated }
            }
            ExprNode::IsNull { expr, negated } => Bound::IsNull { of: self.boxed(expr), negated: *negated },
            ExprNode::Case { subject, branches, otherwise } => Bound::Case {
                subject: subject.as_ref().map(|subject| self.boxed(subject)),
                branches: branches.iter().map(|(when, then)| (self.expr(when), self.expr(then))).collect(),
                otherwise: otherwise.as_ref().map(|otherwise| self.boxed(otherwise)),
            },
            ExprNode::Call(call) => self.call(call, span),
        }
    }

    fn unknown(&self, name: &str) -> Diagnostic {
        let lower = name.to_ascii_lowercase();
        if WindowKind::ALL.iter().any(|kind| kind.name() == lower) {
            return Diagnostic::error("K0228", format!("`{name}` is a window, and windows stand in GROUP BY"));
        }
        if lower == "dedup_trigger" {
            return Diagnostic::error("K0247", format!("`{name}` stands alone as a field of SELECT"));
        }
        let found = Diagnostic::error("K0210", format!("there is no function `{name}`"));
        let windows = WindowKind::ALL.iter().map(|kind| kind.name());
        found.suggest(name, self.funcs.names().chain(windows).chain(["dedup_trigger"]))
    }

    fn call(&mut self, call: &Call, span: Span) -> Bound {
        let name = &call.name;
        let Some(func) = self.funcs.find(&name.name) else {
            let found = self.unknown(&name.name).at(name.span);
            self.list(&call.args);
            return self.fault(found);
        };
        let args: Vec<Arg> = call.args.iter().map(argument).collect();
        if let Err(message) = crate::func::check_call(func, &args) {
            self.fault(Diagnostic::error("K0211", message).at(span));
            // What else is wrong with it is told too, where its arguments are what they are elsewhere.
            if !matches!(func.body, Body::Special(_)) {
                self.list(&call.args);
            }
            return Bound::Const(Value::Null);
        }
        let aggregate = matches!(func.body, Body::Aggregate(_) | Body::GuestAggregate(_));
        if call.distinct && !aggregate {
            return self
                .fault(Diagnostic::error("K0212", format!("DISTINCT has no meaning in `{}`", func.name)).at(span));
        }
        match func.body {
            Body::Special(Special::Meta) => match meta_path(&call.args, self.scope) {
                Some((source, names)) => {
                    let path = Path { names, any_case: self.scope.any_case() };
                    self.scope.meta(source.as_ref(), path)
                }
                None => self.fault(
                    Diagnostic::error("K0213", format!("`{}` takes the name of a metadata key", func.name))
                        .at(span)
                        .help("write `meta(topic)`, `meta(stream.topic)`, `meta(key->sub)` or `meta(*)`"),
                ),
            },
            Body::Special(_) | Body::Aggregate(_) | Body::GuestAggregate(_) => {
                self.scope.planned(call, func, span).unwrap_or_else(|found| {
                    self.found.extend(found);
                    Bound::Const(Value::Null)
                })
            }
            _ if call.over.is_some() => self.fault(
                Diagnostic::error("K0215", format!("`{}` takes no OVER, since it remembers nothing", func.name))
                    .at(span),
            ),
            Body::Guest(_) => {
                let number = self.scope.number();
                Bound::Call(func, self.list(&call.args), number)
            }
            _ => Bound::Call(func, self.list(&call.args), 0),
        }
    }
}

/// The finding for an expression in REPLACE without a name.
pub fn nameless(field: &Field) -> Diagnostic {
    Diagnostic::error("K0226", "an expression in REPLACE needs the name of the column that it replaces")
        .at(field.span)
        .help("write `expression AS column`")
}

/// What is known of an argument before any row.
pub fn argument(expr: &Expr) -> Arg {
    match &expr.bare().node {
        ExprNode::Literal(literal) => Arg::Literal(constant(literal)),
        ExprNode::Unary(UnaryOp::Neg, of) => match &of.bare().node {
            ExprNode::Literal(Literal::Int(n)) => Arg::Literal(Value::Int(n.wrapping_neg())),
            ExprNode::Literal(Literal::Float(x)) => Arg::Literal(Value::Float(-x)),
            _ => Arg::Other,
        },
        ExprNode::Unit(_) => Arg::Unit,
        ExprNode::Wildcard(_) => Arg::Wildcard,
        ExprNode::Name(name) => Arg::Column(name.clone()),
        ExprNode::Dotted(_, name) => Arg::Column(name.clone()),
        _ => Arg::Other,
    }
}

/// The value of a literal.
pub fn constant(literal: &Literal) -> Value {
    match literal {
        Literal::Int(n) => Value::Int(*n),
        Literal::Float(x) => Value::Float(*x),
        Literal::Text(text) => Value::Text(text.clone()),
        Literal::Bool(yes) => Value::Bool(*yes),
        Literal::Null => Value::Null,
    }
}

/// The source and the path of `meta(key)`, `meta(stream.key)`, `meta(key->sub)`, `meta(*)`, `meta(stream.*)`.
fn meta_path(args: &[Expr], scope: &dyn Scope) -> Option<(Option<Text>, Vec<Text>)> {
    fn path(expr: &Expr, scope: &dyn Scope) -> Option<(Option<Text>, Vec<Text>)> {
        match &expr.node {
            ExprNode::Name(name) => Some((None, vec![name.clone()])),
            ExprNode::Dotted(source, name) if scope.is_source(source) => {
                Some((Some(source.clone()), vec![name.clone()]))
            }
            ExprNode::Dotted(key, part) => Some((None, vec![key.clone(), part.clone()])),
            ExprNode::Member(of, name) => {
                let (source, mut names) = path(of, scope)?;
                names.push(name.name.clone());
                Some((source, names))
            }
            ExprNode::Wildcard(wildcard) if wildcard.except.is_empty() && wildcard.replace.is_empty() => {
                match &wildcard.of {
                    Some(source) if !scope.is_source(source) => None,
                    of => Some((of.clone(), Vec::new())),
                }
            }
            _ => None,
        }
    }
    match args {
        [only] => path(only, scope),
        _ => None,
    }
}

/// Evaluates now what has only constants in it and cannot fail; what fails is left, to fail row by row.
fn fold(bound: Bound) -> Bound {
    let is_const = |part: &Bound| matches!(part, Bound::Const(_));
    let foldable = match &bound {
        Bound::Unary(_, of) => is_const(of),
        Bound::Binary(BinaryOp::And | BinaryOp::Or, ..) => false,
        Bound::Binary(_, a, b) => is_const(a) && is_const(b),
        _ => false,
    };
    if !foldable {
        return bound;
    }
    let rule = RuleInfo::nowhere();
    let frame = Frame { row: &[], meta: None, time: Time(0), now: Time(0), rule: &rule };
    match Program::new(&bound).eval(&frame) {
        Ok(value) => Bound::Const(value),
        Err(_) => bound,
    }
}
