//! A statement in the style of the house: on one line while it fits, else each clause on its own; a clause that does not
//! fit has its items on lines of their own, four spaces in, and a condition breaks before AND and OR.

use super::ast::{BinaryOp, Call, Create, Expr, ExprNode, Field, Select, Statement};
use super::expr::{grip, level};
use super::printer::At;

/// The longest line, in characters.
const WIDTH: usize = 100;
const INDENT: usize = 4;

/// A statement as text, without a semicolon.
pub fn print_statement(statement: &Statement) -> String {
    let line = statement.to_string();
    if fits(&line, 0) {
        return line;
    }
    match statement {
        Statement::Select(select) => of_select(select),
        Statement::Create(create) => of_create(create),
        _ => line,
    }
}

fn fits(line: &str, indent: usize) -> bool {
    indent + line.chars().count() <= WIDTH
}

fn spaces(count: usize) -> String {
    " ".repeat(count)
}

fn of_select(select: &Select) -> String {
    let mut lines = vec![clause("SELECT", &select.fields, field)];
    lines.push(format!("FROM {}", select.from));
    for join in &select.joins {
        let head = format!("{} {}", join.kind, join.source);
        lines.push(match &join.on {
            Some(on) => condition(&format!("{head} ON"), on),
            None => head,
        });
    }
    lines.extend(select.filter.iter().map(|filter| condition("WHERE", filter)));
    if !(select.group.is_empty() && select.windows.is_empty()) {
        lines.push(clause("GROUP BY", &select.keys(), |key, _| key.clone()));
    }
    lines.extend(select.having.iter().map(|having| condition("HAVING", having)));
    if !select.order.is_empty() {
        lines.push(clause("ORDER BY", &select.order, |sort, _| sort.to_string()));
    }
    lines.extend(select.limit.iter().map(|limit| format!("LIMIT {}", limit.rows)));
    lines.join("\n")
}

fn of_create(create: &Create) -> String {
    let mut text = format!("CREATE {} {} ", create.what, create.name);
    text.push_str(&in_parentheses(&create.columns, text.chars().count()));
    text.push_str(" WITH ");
    let last = text.rsplit('\n').next().unwrap_or_default().chars().count();
    text.push_str(&in_parentheses(&create.options, last));
    text
}

/// Items in parentheses behind `before` characters, on lines of their own where they do not fit.
fn in_parentheses<T: ToString>(items: &[T], before: usize) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    let line = format!("({})", items.join(", "));
    // A closing parenthesis is followed by ` WITH (`.
    if items.is_empty() || fits(&line, before + 7) {
        return line;
    }
    let indent = spaces(INDENT);
    format!("(\n{indent}{}\n)", items.join(&format!(",\n{indent}")))
}

/// A clause with items; each is laid out with the indent that it gets.
fn clause<T: ToString>(head: &str, items: &[T], lay: impl Fn(&T, usize) -> String) -> String {
    let all: Vec<String> = items.iter().map(ToString::to_string).collect();
    let line = format!("{head} {}", all.join(", "));
    if fits(&line, 0) {
        return line;
    }
    let items: Vec<String> = items.iter().map(|item| format!("{}{}", spaces(INDENT), lay(item, INDENT))).collect();
    format!("{head}\n{}", items.join(",\n"))
}

fn condition(head: &str, expr: &Expr) -> String {
    let line = format!("{head} {expr}");
    if fits(&line, 0) { line } else { format!("{head} {}", of_expr(expr, 0)) }
}

fn field(field: &Field, indent: usize) -> String {
    let line = field.to_string();
    // A comma follows.
    if fits(&line, indent + 1) {
        return line;
    }
    let expr = field.expr.to_string();
    // What stands behind the expression is the same in both.
    format!("{}{}", of_expr(&field.expr, indent), line.strip_prefix(&expr).unwrap_or_default())
}

/// An expression whose first line is indented already.
fn of_expr(expr: &Expr, indent: usize) -> String {
    let line = expr.to_string();
    if fits(&line, indent) {
        return line;
    }
    let (inner, outer) = (spaces(indent + INDENT), spaces(indent));
    match &expr.node {
        ExprNode::Paren(of) => {
            format!("(\n{inner}{}\n{outer})", of_expr(of, indent + INDENT))
        }
        ExprNode::Binary(op @ (BinaryOp::And | BinaryOp::Or), ..) => {
            let mut parts = vec![];
            chain(expr, *op, &mut parts);
            let floor = |at: usize| if at == 0 { level(*op) } else { level(*op) + 1 };
            let part = |(at, part): (usize, &&Expr)| match grip(&part.node) < floor(at) {
                true => At(part, floor(at)).to_string(),
                false => of_expr(part, indent + INDENT),
            };
            let parts: Vec<String> = parts.iter().enumerate().map(part).collect();
            parts.join(&format!("\n{inner}{} ", op.symbol()))
        }
        ExprNode::Case { subject, branches, otherwise } => {
            let mut text = String::from("CASE");
            subject.iter().for_each(|subject| text.push_str(&format!(" {subject}")));
            for (when, then) in branches {
                let when = of_expr(when, indent + INDENT);
                text.push_str(&format!("\n{inner}WHEN {when} THEN {}", of_expr(then, indent + INDENT)));
            }
            if let Some(otherwise) = otherwise {
                text.push_str(&format!("\n{inner}ELSE {}", of_expr(otherwise, indent + INDENT)));
            }
            text.push_str(&format!("\n{outer}END"));
            text
        }
        ExprNode::Call(call) if is_plain(call) => {
            let args: Vec<String> = call.args.iter().map(|arg| of_expr(arg, indent + INDENT)).collect();
            format!("{}(\n{inner}{}\n{outer})", call.name, args.join(&format!(",\n{inner}")))
        }
        _ => line,
    }
}

/// Nothing but a name and arguments.
fn is_plain(call: &Call) -> bool {
    !call.args.is_empty() && call.filter.is_none() && call.over.is_none() && !call.distinct
}

/// The operands of a chain of one operator.
fn chain<'a>(expr: &'a Expr, op: BinaryOp, parts: &mut Vec<&'a Expr>) {
    match &expr.node {
        ExprNode::Binary(of, left, right) if *of == op => {
            chain(left, op, parts);
            parts.push(right);
        }
        _ => parts.push(expr),
    }
}
