//! What a statement says, and what its expressions see: rows, aliases, groups, the window.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use kuiper::data::{Object, Text, Value};
use kuiper::func::{Body, Catalogue, Func, Special};
use kuiper::sql::{Call, Expr, ExprNode, Field, Select, parse_select};

use super::case::Case;

/// Why there is no value.
#[derive(Clone, Debug)]
pub enum Stop {
    /// The row, or the window, fails.
    Fails(String),
    /// The reference does not say what must happen, so the case is no test.
    Open(String),
}

pub type Got<T> = Result<T, Stop>;

pub fn fails<T>(why: impl Into<String>) -> Got<T> {
    Err(Stop::Fails(why.into()))
}

/// A row that arrived, with the values that analytic functions had for it.
#[derive(Debug)]
pub struct Row {
    /// Its place in the order of arrival.
    pub number: usize,
    pub stream: Text,
    /// When the rule sees it, and which arrival lets it: its own, or in event time the one that moves the watermark.
    pub at: i64,
    pub by: usize,
    /// Its place in the order in which the rule sees rows.
    pub place: usize,
    /// The time by which it belongs to windows; milliseconds since the start, as all times here.
    pub time: i64,
    pub data: Object,
    /// By the place of the call in the statement.
    pub looked: RefCell<HashMap<u32, Value>>,
}

/// What expressions are evaluated over: a row, or the rows that a join put together.
pub type Tuple = Vec<Rc<Row>>;

pub struct Query {
    pub select: Select,
    /// Names of the streams and tables, the one of FROM first, and their aliases.
    pub sources: Vec<(Text, Option<Text>)>,
    pub aliases: Vec<(Text, Expr)>,
    pub send_nil: bool,
    pub start: i64,
    pub funcs: Catalogue,
}

/// Where an expression is evaluated.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    pub query: &'a Query,
    pub tuple: &'a Tuple,
    /// The rows that aggregates go over; without them the tuple alone.
    pub group: Option<&'a [Tuple]>,
    /// Start and end of the window, milliseconds since 1970.
    pub bounds: Option<(i64, i64)>,
    /// What each call of `row_number` is here, by its place in the statement.
    pub numbers: Option<&'a HashMap<u32, i64>>,
    /// The alias whose expression this is; inside it its name means the column.
    pub within: Option<&'a str>,
    pub aggregated: bool,
}

impl Query {
    pub fn new(case: &Case) -> Query {
        let select = match parse_select(&case.sql) {
            Ok(select) => select,
            Err(found) => panic!("`{}` does not parse: {found:?}", case.sql),
        };
        let all = std::iter::once(&select.from).chain(select.joins.iter().map(|join| &join.source));
        let sources = all.map(|of| (of.name.name.clone(), of.alias.as_ref().map(|alias| alias.name.clone()))).collect();
        let aliases = select
            .fields
            .iter()
            .filter_map(|field| field.alias.as_ref().map(|alias| (alias.name.clone(), field.expr.clone())))
            .collect();
        Query {
            sources,
            aliases,
            send_nil: case.has("sendNilField"),
            start: case.start,
            funcs: Catalogue::default(),
            select,
        }
    }

    pub fn func(&self, call: &Call) -> &'static Func {
        match self.funcs.find(&call.name.name) {
            Some(func) => func,
            None => panic!("there is no function `{}`", call.name.name),
        }
    }

    pub fn alias(&self, name: &str) -> Option<&Expr> {
        self.aliases.iter().find(|(alias, _)| alias == name).map(|(_, expr)| expr)
    }

    /// The stream that a qualifier means: its name, or the name that the statement gave it.
    pub fn source(&self, qualifier: &str) -> Option<&Text> {
        let of = |(name, alias): &&(Text, Option<Text>)| match alias {
            Some(alias) => alias == qualifier || name == qualifier,
            None => name == qualifier,
        };
        self.sources.iter().find(of).map(|(name, _)| name)
    }

    pub fn is_aggregate(&self, call: &Call) -> bool {
        matches!(self.func(call).body, Body::Aggregate(_))
    }

    pub fn is_analytic(&self, call: &Call) -> bool {
        matches!(self.func(call).body, Body::Special(Special::Analytic))
    }

    /// The call of a function that makes rows of its argument, if a field is one.
    pub fn rows_call<'e>(&self, field: &'e Field) -> Option<&'e Call> {
        match &field.expr.bare().node {
            ExprNode::Call(call) if matches!(self.func(call).body, Body::Special(Special::Rows)) => Some(call),
            _ => None,
        }
    }

    /// The call of `changed_cols` that a field is, if it is one.
    pub fn changed_call<'e>(&self, field: &'e Field) -> Option<&'e Call> {
        match &field.expr.bare().node {
            ExprNode::Call(call) if matches!(self.func(call).body, Body::Special(Special::Columns)) => Some(call),
            _ => None,
        }
    }

    /// Whether an aggregate stands in the expression, also through aliases.
    pub fn has_aggregate(&self, expr: &Expr, within: Option<&str>) -> bool {
        match &expr.node {
            ExprNode::Call(call) if self.is_aggregate(call) => return true,
            ExprNode::Name(name) | ExprNode::Dotted(name, _) if within != Some(name) => {
                if let Some(of) = self.alias(name) {
                    return self.has_aggregate(of, Some(name));
                }
            }
            _ => {}
        }
        let mut found = false;
        expr.parts(&mut |part| found |= self.has_aggregate(part, within));
        found
    }
}
