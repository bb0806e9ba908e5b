//! Expressions made by chance, and whether two are the same.

use kuiper::data::Text;
use kuiper::diag::Span;
use kuiper::sql::{BinaryOp, Call, Expr, ExprNode, Ident, Literal, Over, Sort, UnaryOp, Unit, Wildcard};

use super::Chance;

fn at(node: ExprNode) -> Expr {
    Expr::new(node, Span::default())
}

fn boxed(node: ExprNode) -> Box<Expr> {
    Box::new(at(node))
}

fn ident(name: &str) -> Ident {
    Ident { name: name.into(), span: Span::default() }
}

const NAMES: &[&str] =
    &["a", "b", "Temp_1", "two words", "select", "null", "distinct", "is", "outer", "ü", "", "with.dot", "x-y", "ss"];

fn name(chance: &mut Chance) -> Text {
    Text::from(chance.word(NAMES))
}

fn literal(chance: &mut Chance) -> Literal {
    match chance.below(8) {
        0 => Literal::Int(chance.below(1000) as i64 - 500),
        1 => Literal::Int(*chance.one(&[i64::MIN, i64::MAX, 0, -1])),
        2 => Literal::Float(*chance.one(&[0.0, -0.0, 1.5, -2.25, 1e300, -1e-7, 5.0, 0.1])),
        3 => {
            Literal::Text(Text::from(chance.word(&["", "it's", "say \"x\"", "a\\b", "\n\t\u{1}", "😀 ü", "--", "/*"])))
        }
        4 => Literal::Bool(chance.maybe()),
        5 => Literal::Null,
        _ => Literal::Int(chance.below(10) as i64),
    }
}

const OPERATORS: &[BinaryOp] = &[
    BinaryOp::Or,
    BinaryOp::And,
    BinaryOp::Eq,
    BinaryOp::NotEq,
    BinaryOp::Less,
    BinaryOp::LessEq,
    BinaryOp::Greater,
    BinaryOp::GreaterEq,
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Rem,
    BinaryOp::BitAnd,
    BinaryOp::BitOr,
    BinaryOp::BitXor,
];

/// Any expression that the grammar knows, without parentheses: the printer sets those that are needed.
pub fn tree(chance: &mut Chance, depth: usize) -> Expr {
    if depth == 0 {
        return at(match chance.below(6) {
            0 => ExprNode::Dotted(name(chance), name(chance)),
            1 | 2 => ExprNode::Literal(literal(chance)),
            3 => ExprNode::Unit(*chance.one(&[Unit::Day, Unit::Second])),
            _ => ExprNode::Name(name(chance)),
        });
    }
    let depth = depth - 1;
    let one = |chance: &mut Chance| Box::new(tree(chance, depth));
    let some = |chance: &mut Chance| (0..=chance.below(3)).map(|_| tree(chance, depth)).collect::<Vec<_>>();
    at(match chance.below(14) {
        0..=3 => ExprNode::Binary(*chance.one(OPERATORS), one(chance), one(chance)),
        4 => ExprNode::Unary(*chance.one(&[UnaryOp::Neg, UnaryOp::Not]), one(chance)),
        5 => ExprNode::Between { expr: one(chance), low: one(chance), high: one(chance), negated: chance.maybe() },
        6 => ExprNode::InList { expr: one(chance), list: some(chance), negated: chance.maybe() },
        7 => {
            // A list in parentheses would be read as one.
            let array = boxed(ExprNode::Member(boxed(ExprNode::Name(name(chance))), ident("list")));
            ExprNode::InArray { expr: one(chance), array, negated: chance.maybe() }
        }
        8 => ExprNode::Like { expr: one(chance), pattern: one(chance), negated: chance.maybe() },
        9 => ExprNode::IsNull { expr: one(chance), negated: chance.maybe() },
        10 => ExprNode::Member(one(chance), ident(chance.word(NAMES))),
        11 if chance.maybe() => ExprNode::Index(one(chance), one(chance)),
        11 => {
            let bound = |chance: &mut Chance| chance.maybe().then(|| one(chance));
            let (from, to) = (bound(chance), bound(chance));
            ExprNode::Slice(one(chance), from, to)
        }
        12 => {
            let simple = chance.maybe();
            let branch = |chance: &mut Chance| {
                let when = match simple {
                    true => tree(chance, depth),
                    // What can be no condition is refused.
                    false => at(ExprNode::Binary(BinaryOp::Eq, one(chance), one(chance))),
                };
                (when, tree(chance, depth))
            };
            let branches = (0..=chance.below(2)).map(|_| branch(chance)).collect();
            let subject = if simple { Some(one(chance)) } else { None };
            ExprNode::Case { subject, branches, otherwise: chance.maybe().then(|| one(chance)) }
        }
        _ => ExprNode::Call(Box::new(call(chance, depth))),
    })
}

fn call(chance: &mut Chance, depth: usize) -> Call {
    let some = |chance: &mut Chance| (0..chance.below(3)).map(|_| tree(chance, depth)).collect::<Vec<_>>();
    let mut args = some(chance);
    let distinct = !args.is_empty() && chance.below(4) == 0;
    if distinct {
        // DISTINCT stands before an operand, and before a name it may be a column.
        args[0] = at(ExprNode::Name("a".into()));
    } else if chance.below(4) == 0 {
        let except = (0..chance.below(3)).map(|_| ident(chance.word(NAMES))).collect();
        args.push(at(ExprNode::Wildcard(Box::new(Wildcard { except, ..Wildcard::default() }))));
    }
    let over = (chance.below(4) == 0).then(|| {
        let sort = |chance: &mut Chance| {
            let sum = ExprNode::Binary(BinaryOp::Add, boxed(ExprNode::Name("a".into())), Box::new(tree(chance, depth)));
            Sort { expr: at(sum), descending: chance.maybe() }
        };
        let order = (0..chance.below(3)).map(|_| sort(chance)).collect();
        let when = Some(tree(chance, depth));
        Over { partition: some(chance), when, order, span: Span::default() }
    });
    Call { name: ident(chance.word(&["f", "upper", "two words"])), args, distinct, filter: None, over }
}

/// Whether two expressions are the same, places and parentheses apart.
pub fn same(a: &Expr, b: &Expr) -> bool {
    let (a, b) = (a.bare(), b.bare());
    let parts = |expr: &'_ Expr| {
        let mut parts = vec![];
        expr.parts(&mut |part| parts.push(part.clone()));
        parts
    };
    let (of_a, of_b) = (parts(a), parts(b));
    label(a) == label(b) && of_a.len() == of_b.len() && of_a.iter().zip(&of_b).all(|(a, b)| same(a, b))
}

/// What an expression is, but for its parts.
fn label(expr: &Expr) -> String {
    match &expr.node {
        ExprNode::Literal(literal) => format!("{literal:?}"),
        ExprNode::Unit(unit) => format!("{unit:?}"),
        ExprNode::Name(name) => format!("name {name}"),
        ExprNode::Dotted(a, b) => format!("dotted {a} {b}"),
        ExprNode::Wildcard(all) => {
            format!("all {:?} {:?}", all.of, all.except.iter().map(|name| name.name.to_string()).collect::<Vec<_>>())
        }
        ExprNode::Member(_, name) => format!("member {}", name.name),
        ExprNode::Index(..) => "index".into(),
        ExprNode::Slice(_, from, to) => format!("slice {} {}", from.is_some(), to.is_some()),
        ExprNode::Unary(op, _) => format!("{op:?}"),
        ExprNode::Binary(op, ..) => format!("{op:?}"),
        ExprNode::Between { negated, .. } => format!("between {negated}"),
        ExprNode::InList { list, negated, .. } => format!("in {} {negated}", list.len()),
        ExprNode::InArray { negated, .. } => format!("in array {negated}"),
        ExprNode::Like { negated, .. } => format!("like {negated}"),
        ExprNode::IsNull { negated, .. } => format!("null {negated}"),
        ExprNode::Case { subject, branches, otherwise } => {
            format!("case {} {} {}", subject.is_some(), branches.len(), otherwise.is_some())
        }
        ExprNode::Call(call) => {
            let over = call.over.as_ref().map(|over| {
                let order: Vec<bool> = over.order.iter().map(|sort| sort.descending).collect();
                (over.partition.len(), over.when.is_some(), order)
            });
            format!("call {} {} {} {over:?}", call.name.name, call.args.len(), call.distinct)
        }
        ExprNode::Paren(_) => unreachable!("bare"),
    }
}
