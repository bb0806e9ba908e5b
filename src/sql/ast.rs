use crate::data::{Kind, Text};
use crate::diag::Span;

/// A name as written, without its backticks.
#[derive(Clone, Debug, PartialEq)]
pub struct Ident {
    pub name: Text,
    pub span: Span,
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    Select(Box<Select>),
    Create(Box<Create>),
    Show(What),
    Describe(What, Ident),
    Explain(What, Ident),
    Drop(What, Ident),
}

/// Stream or table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Stream,
    Table,
}

/// `CREATE STREAM|TABLE name (columns) WITH (options)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    pub what: What,
    pub name: Ident,
    /// Empty: schemaless.
    pub columns: Vec<ColumnDef>,
    /// In the order written, keys upper case; a repeated key: the last one counts.
    pub options: Vec<OptionDef>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnDef {
    pub name: Ident,
    pub kind: Kind,
    pub default: Option<Literal>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OptionDef {
    /// Upper case, for example `CONF_KEY`.
    pub key: Text,
    pub value: Text,
    pub key_span: Span,
    pub value_span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    pub fields: Vec<Field>,
    pub from: Source,
    pub joins: Vec<Join>,
    pub filter: Option<Expr>,
    /// Keys other than windows.
    pub group: Vec<Expr>,
    /// All windows written in GROUP BY; more than one is refused by the planner.
    pub windows: Vec<Window>,
    pub having: Option<Expr>,
    pub order: Vec<Sort>,
    pub limit: Option<Limit>,
    pub span: Span,
}

impl Select {
    /// Calls `visit` with each expression of all clauses, and with all their parts.
    pub fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        fn walk<'a>(expr: &'a Expr, visit: &mut dyn FnMut(&'a Expr)) {
            visit(expr);
            expr.parts(&mut |part| walk(part, visit));
        }
        let windows = self
            .windows
            .iter()
            .flat_map(|window| window.args.iter().chain(&window.filter).chain(&window.when).chain(&window.partition));
        let fields = self.fields.iter().map(|field| &field.expr);
        let joins = self.joins.iter().filter_map(|join| join.on.as_ref());
        let order = self.order.iter().map(|sort| &sort.expr);
        let keys = self.filter.iter().chain(&self.group).chain(&self.having);
        fields.chain(joins).chain(keys).chain(windows).chain(order).for_each(|expr| walk(expr, visit));
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub expr: Expr,
    pub alias: Option<Ident>,
    pub invisible: bool,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub name: Ident,
    pub alias: Option<Ident>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    pub kind: JoinKind,
    pub source: Source,
    pub on: Option<Expr>,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    Cross,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sort {
    pub expr: Expr,
    pub descending: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Negative: no limit.
    pub rows: i64,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub kind: WindowKind,
    /// As written: unit word first where the kind has one.
    pub args: Vec<Expr>,
    pub filter: Option<Expr>,
    pub when: Option<Expr>,
    pub partition: Vec<Expr>,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    Tumbling,
    Hopping,
    Sliding,
    Session,
    Count,
    State,
}

impl WindowKind {
    pub const ALL: [WindowKind; 6] = [
        WindowKind::Tumbling,
        WindowKind::Hopping,
        WindowKind::Sliding,
        WindowKind::Session,
        WindowKind::Count,
        WindowKind::State,
    ];

    /// The name of the window in SQL, lower case.
    pub fn name(self) -> &'static str {
        match self {
            WindowKind::Tumbling => "tumblingwindow",
            WindowKind::Hopping => "hoppingwindow",
            WindowKind::Sliding => "slidingwindow",
            WindowKind::Session => "sessionwindow",
            WindowKind::Count => "countwindow",
            WindowKind::State => "statewindow",
        }
    }
}

/// DD, HH, MI, SS, MS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Int(i64),
    Float(f64),
    Text(Text),
    Bool(bool),
    /// Written `NULL`; a column of that name needs backticks.
    Null,
}

/// An expression with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub node: ExprNode,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprNode {
    Literal(Literal),
    /// DD, HH, MI, SS or MS where an expression stands.
    Unit(Unit),
    /// A bare name: a column or an alias.
    Name(Text),
    /// `a.b` with two parts: a qualified column, or a member of column `a` when `a` is no source.
    Dotted(Text, Text),
    /// `*` in a select list or as an argument, with EXCEPT and REPLACE; `src.*` with a qualifier.
    Wildcard(Box<Wildcard>),
    /// `expr -> name` and `expr . name` beyond two parts.
    Member(Box<Expr>, Ident),
    /// `expr [ index ]`
    Index(Box<Expr>, Box<Expr>),
    /// `expr [ from : to ]`; `[]` has neither.
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    Unary(UnaryOp, Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    Between {
        expr: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        negated: bool,
    },
    /// `expr IN (a, b)`
    InList {
        expr: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    /// `expr IN array`
    InArray {
        expr: Box<Expr>,
        array: Box<Expr>,
        negated: bool,
    },
    Like {
        expr: Box<Expr>,
        pattern: Box<Expr>,
        negated: bool,
    },
    IsNull {
        expr: Box<Expr>,
        negated: bool,
    },
    Case {
        subject: Option<Box<Expr>>,
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    Call(Box<Call>),
    /// Kept so that printing gives back what was written.
    Paren(Box<Expr>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wildcard {
    /// `src` of `src.*`.
    pub of: Option<Text>,
    pub except: Vec<Ident>,
    pub replace: Vec<Field>,
}

/// `name(args) OVER (…)`. A window call outside GROUP BY is a call like any other and refused by the planner.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// As written; built-in names do not heed case, names of plugins do.
    pub name: Ident,
    pub args: Vec<Expr>,
    /// `count(DISTINCT x)`
    pub distinct: bool,
    pub filter: Option<Expr>,
    pub over: Option<Over>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Over {
    pub partition: Vec<Expr>,
    pub when: Option<Expr>,
    pub order: Vec<Sort>,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    Neg,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Or,
    And,
    Eq,
    NotEq,
    Less,
    LessEq,
    Greater,
    GreaterEq,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    BitAnd,
    BitOr,
    BitXor,
}

impl BinaryOp {
    /// As it stands in SQL.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Or => "OR",
            BinaryOp::And => "AND",
            BinaryOp::Eq => "=",
            BinaryOp::NotEq => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessEq => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEq => ">=",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Rem => "%",
            BinaryOp::BitAnd => "&",
            BinaryOp::BitOr => "|",
            BinaryOp::BitXor => "^",
        }
    }
}

impl Expr {
    pub fn new(node: ExprNode, span: Span) -> Self {
        Expr { node, span }
    }

    /// The expression inside any parentheses.
    pub fn bare(&self) -> &Expr {
        match &self.node {
            ExprNode::Paren(inner) => inner.bare(),
            _ => self,
        }
    }

    /// Calls `visit` with each direct part of the expression.
    pub fn parts<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match &self.node {
            ExprNode::Literal(_) | ExprNode::Unit(_) | ExprNode::Name(_) | ExprNode::Dotted(..) => {}
            ExprNode::Wildcard(wildcard) => wildcard.replace.iter().for_each(|field| visit(&field.expr)),
            ExprNode::Member(of, _) | ExprNode::Unary(_, of) | ExprNode::Paren(of) => visit(of),
            ExprNode::IsNull { expr, .. } => visit(expr),
            ExprNode::Index(a, b) | ExprNode::Binary(_, a, b) => {
                visit(a);
                visit(b);
            }
            ExprNode::Slice(of, from, to) => {
                visit(of);
                from.iter().chain(to).for_each(|bound| visit(bound));
            }
            ExprNode::Between { expr, low, high, .. } => {
                visit(expr);
                visit(low);
                visit(high);
            }
            ExprNode::InList { expr, list, .. } => {
                visit(expr);
                list.iter().for_each(visit);
            }
            ExprNode::InArray { expr, array, .. } => {
                visit(expr);
                visit(array);
            }
            ExprNode::Like { expr, pattern, .. } => {
                visit(expr);
                visit(pattern);
            }
            ExprNode::Case { subject, branches, otherwise } => {
                subject.iter().for_each(|expr| visit(expr));
                for (when, then) in branches {
                    visit(when);
                    visit(then);
                }
                otherwise.iter().for_each(|expr| visit(expr));
            }
            ExprNode::Call(call) => {
                call.args.iter().for_each(&mut *visit);
                call.filter.iter().for_each(&mut *visit);
                if let Some(over) = &call.over {
                    over.partition.iter().for_each(&mut *visit);
                    over.when.iter().for_each(&mut *visit);
                    over.order.iter().for_each(|sort| visit(&sort.expr));
                }
            }
        }
    }
}
