//! A whole rule, by definition: all rows in memory, one clause after the other, in the order of chapter 16.1.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;

use kuiper::data::{Object, Text, Value};
use kuiper::sql::{Expr, ExprNode, WindowKind};

use super::aggregate::try_all;
use super::analytic::{History, expressions, printed};
use super::case::{Case, Emission, Expected};
use super::expr::{all_columns, column, condition, eval, order, passes, qualified};
use super::query::{Got, Query, Row, Scope, Stop, Tuple, fails};
use super::window::{Firing, firings};

/// What became of a row in one result; of several the greatest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Held,
    Filtered,
    Out,
    Dead,
}

struct Run<'a> {
    case: &'a Case,
    query: &'a Query,
    /// With the row that caused it, for those of one instant.
    emissions: Vec<(i64, usize, Emission)>,
    fates: Vec<Fate>,
}

/// What the rule must give out.
///
/// # Errors
/// The reference leaves it open.
pub fn evaluate(case: &Case) -> Result<Expected, String> {
    let query = Query::new(case);
    let mut run = Run { case, query: &query, emissions: Vec::new(), fates: vec![Fate::Held; case.rows.len()] };
    match run.all() {
        Ok(()) => {}
        Err(Stop::Open(why) | Stop::Fails(why)) => return Err(why),
    }
    let at_once = |(at, cause, one): &(i64, usize, Emission)| {
        let others = run.emissions.iter().filter(|(other, of, _)| other == at && of != cause);
        one.body.is_err() && *cause != usize::MAX && others.count() > 0
    };
    if !query.select.windows.is_empty() && run.emissions.iter().any(at_once) {
        return Err("a row fails at the instant of a window".to_string());
    }
    run.emissions.sort_by_key(|(at, cause, _)| (*at, *cause));
    let emissions = run.emissions.into_iter().map(|(.., emission)| emission).collect();
    Ok(Expected { emissions, ledger: ledger(&query, &run.fates) })
}

/// Windows that overlap hold their rows for later ones; theirs is not predicted.
fn ledger(query: &Query, fates: &[Fate]) -> Vec<(&'static str, usize)> {
    let kinds = [WindowKind::Hopping, WindowKind::Sliding, WindowKind::Count];
    if query.select.windows.iter().any(|window| kinds.contains(&window.kind) || window.kind == WindowKind::State) {
        return Vec::new();
    }
    let count = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count();
    vec![
        ("in", fates.len()),
        ("out", count(Fate::Out)),
        ("filtered", count(Fate::Filtered)),
        ("held", count(Fate::Held)),
        ("dead", count(Fate::Dead)),
    ]
}

impl Run<'_> {
    fn all(&mut self) -> Got<()> {
        let query = self.query;
        let mut history = History::default();
        let mut accepted: Vec<Tuple> = Vec::new();
        for (number, arriving) in self.case.rows.iter().enumerate() {
            let row = Rc::new(Row {
                number,
                stream: arriving.stream.into(),
                at: arriving.at,
                time: arriving.at,
                data: arriving.data.clone(),
                looked: RefCell::new(HashMap::new()),
            });
            match self.accepts(&mut history, &row) {
                Ok(true) => accepted.push(vec![row]),
                Ok(false) => self.fates[number] = Fate::Filtered,
                Err(Stop::Fails(why)) => {
                    self.fates[number] = Fate::Dead;
                    self.emit(arriving.at, Some(number), Err(why));
                }
                Err(open) => return Err(open),
            }
        }
        let Some(window) = query.select.windows.first() else {
            return accepted.into_iter().try_for_each(|tuple| self.single(&tuple));
        };
        let open = self.case.option("planOptimizeStrategy").is_some_and(|text| text.contains("v2"));
        for firing in firings(query, window, &accepted, self.case.length, open)? {
            match self.fire(&firing) {
                Ok(Some(rows)) => self.emit(firing.at, firing.cause, Ok(rows)),
                Ok(None) => {}
                Err(Stop::Fails(why)) => self.emit(firing.at, firing.cause, Err(why)),
                Err(open) => return Err(open),
            }
        }
        Ok(())
    }

    fn emit(&mut self, at: i64, cause: Option<usize>, body: Result<Vec<Object>, String>) {
        if body.is_ok() || self.case.has("sendError") {
            self.emissions.push((at, cause.unwrap_or(usize::MAX), Emission { at, body }));
        }
    }

    fn meets(&mut self, tuple: &Tuple, fate: Fate) {
        for row in tuple {
            let known = &mut self.fates[row.number];
            *known = (*known).max(fate);
        }
    }

    fn scope<'a>(&'a self, tuple: &'a Tuple) -> Scope<'a> {
        Scope { query: self.query, tuple, group: None, bounds: None, number: None, within: None, aggregated: false }
    }

    /// WHERE stands before these windows, and after the others (section 16.2).
    fn where_is_below(&self) -> bool {
        let select = &self.query.select;
        !select.windows.iter().any(|window| matches!(window.kind, WindowKind::Count | WindowKind::Sliding))
    }

    /// What happens to a row when it arrives.
    fn accepts(&self, history: &mut History, row: &Rc<Row>) -> Got<bool> {
        let select = &self.query.select;
        history.show(self.query, row)?;
        let tuple = vec![row.clone()];
        let below = select.filter.as_ref().filter(|_| self.where_is_below());
        let filters = below.into_iter().chain(select.windows.iter().filter_map(|window| window.filter.as_ref()));
        for filter in filters {
            if !passes(filter, &self.scope(&tuple))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A row of a rule without a window.
    fn single(&mut self, tuple: &Tuple) -> Got<()> {
        let row = &tuple[0];
        if self.query.select.limit.as_ref().is_some_and(|limit| limit.rows == 0) {
            self.meets(tuple, Fate::Filtered);
            return Ok(());
        }
        let shown = self.tried(&self.scope(tuple)).and_then(|()| self.project(&self.scope(tuple)));
        match shown {
            Ok(shown) => {
                self.meets(tuple, Fate::Out);
                self.emit(row.at, Some(row.number), Ok(vec![shown]));
            }
            Err(Stop::Fails(why)) => {
                self.meets(tuple, Fate::Dead);
                self.emit(row.at, Some(row.number), Err(why));
            }
            Err(open) => return Err(open),
        }
        Ok(())
    }

    /// What comes of a window; nothing where no row is left of it.
    fn fire(&mut self, firing: &Firing) -> Got<Option<Vec<Object>>> {
        let query = self.query;
        let select = &query.select;
        let bounds = Some((query.start + firing.start, query.start + firing.end));
        let mut tuples = firing.rows.clone();
        if let Some(filter) = select.filter.as_ref().filter(|_| !self.where_is_below()) {
            let mut kept = Vec::new();
            for tuple in &tuples {
                let scope = Scope { bounds, ..self.scope(tuple) };
                match passes(filter, &scope) {
                    Ok(true) => kept.push(tuple.clone()),
                    Ok(false) => {}
                    Err(why) => return self.dies(why, &firing.rows),
                }
            }
            tuples.iter().filter(|tuple| !kept.iter().any(|kept| Rc::ptr_eq(&kept[0], &tuple[0]))).for_each(|gone| {
                let known = &mut self.fates[gone[0].number];
                *known = (*known).max(Fate::Filtered);
            });
            tuples = kept;
            if tuples.is_empty() {
                return Ok(None);
            }
        }
        match self.result(&tuples, bounds) {
            Ok(Some(rows)) => Ok(Some(rows)),
            Ok(None) => Ok(None),
            Err(why) => self.dies(why, &[]),
        }
    }

    /// A failure: these rows are dead with it.
    fn dies<T>(&mut self, why: Stop, rows: &[Tuple]) -> Got<T> {
        rows.iter().for_each(|tuple| self.meets(tuple, Fate::Dead));
        Err(why)
    }

    /// Groups, HAVING, ORDER BY, LIMIT and the fields, over the rows of one window.
    fn result(&mut self, tuples: &[Tuple], bounds: Option<(i64, i64)>) -> Got<Option<Vec<Object>>> {
        let query = self.query;
        let select = &query.select;
        let aggregated = !select.group.is_empty()
            || select.fields.iter().any(|field| {
                let within = field.alias.as_ref().map(|alias| alias.name.as_str());
                query.has_aggregate(&field.expr, within)
            });
        // One unit makes one row of the result.
        let mut units: Vec<Unit> = Vec::new();
        if aggregated {
            let mut keys: Vec<Vec<Text>> = Vec::new();
            for tuple in tuples {
                let scope = Scope { bounds, ..self.scope(tuple) };
                let key: Got<Vec<Text>> = select.group.iter().map(|key| Ok(printed(&eval(key, &scope)?))).collect();
                let key = match key {
                    Ok(key) => key,
                    Err(why) => return self.dies(why, tuples),
                };
                match keys.iter().position(|known| *known == key) {
                    Some(n) => units[n].rows.push(tuple.clone()),
                    None => {
                        keys.push(key);
                        units.push(Unit { first: tuple.clone(), rows: vec![tuple.clone()], number: 0 });
                    }
                }
            }
            if select.group.is_empty() && tuples.is_empty() {
                units.push(Unit { first: Vec::new(), rows: Vec::new(), number: 0 });
            }
            if units.is_empty() {
                return Ok(None);
            }
        } else {
            units = tuples.iter().map(|tuple| Unit { first: tuple.clone(), rows: Vec::new(), number: 0 }).collect();
        }
        let scope = |unit: &Unit| -> (Tuple, Vec<Tuple>) {
            (unit.first.clone(), if aggregated { unit.rows.clone() } else { tuples.to_vec() })
        };
        let mut all: Vec<(Unit, Tuple, Vec<Tuple>)> = units
            .into_iter()
            .map(|unit| {
                let (first, group) = scope(&unit);
                (unit, first, group)
            })
            .collect();
        let view = |entry: &(Unit, Tuple, Vec<Tuple>)| -> Got<()> {
            self.tried(&in_group(query, &entry.1, &entry.2, bounds, aggregated, None))
        };
        if let Some(why) = all.iter().find_map(|entry| view(entry).err()) {
            return self.dies(why, tuples);
        }
        if let Some(having) = &select.having {
            let mut kept = Vec::new();
            for (n, entry) in all.iter().enumerate() {
                let scope = in_group(query, &entry.1, &entry.2, bounds, aggregated, None);
                match eval(having, &scope).and_then(|value| condition(&value)) {
                    Ok(Some(true)) => kept.push(n),
                    Ok(Some(false)) => {}
                    Ok(None) => return self.dies(Stop::Fails("HAVING is NULL".into()), tuples),
                    Err(why) => return self.dies(why, tuples),
                }
            }
            let gone: Vec<Tuple> =
                (0..all.len()).filter(|n| !kept.contains(n)).flat_map(|n| all[n].0.members(aggregated)).collect();
            gone.iter().for_each(|tuple| self.meets(tuple, Fate::Filtered));
            if kept.is_empty() {
                return Ok(None);
            }
            all = kept.into_iter().map(|n| all[n].clone()).collect();
        }
        for (n, entry) in all.iter_mut().enumerate() {
            entry.0.number = n as i64 + 1;
        }
        let members = |all: &[(Unit, Tuple, Vec<Tuple>)]| -> Vec<Tuple> {
            all.iter().flat_map(|entry| entry.0.members(aggregated)).collect()
        };
        let left = members(&all);
        if !select.order.is_empty() {
            let mut keyed = Vec::new();
            for entry in all {
                let scope = in_group(query, &entry.1, &entry.2, bounds, aggregated, Some(entry.0.number));
                let keys: Got<Vec<Value>> = select.order.iter().map(|sort| eval(&sort.expr, &scope)).collect();
                match keys {
                    Ok(keys) => keyed.push((keys, entry)),
                    Err(why) => return self.dies(why, &left),
                }
            }
            if let Err(why) = self.sort(&mut keyed) {
                return self.dies(why, &left);
            }
            all = keyed.into_iter().map(|(_, entry)| entry).collect();
        }
        if let Some(limit) = select.limit.as_ref().and_then(|limit| usize::try_from(limit.rows).ok()) {
            members(&all[limit.min(all.len())..]).iter().for_each(|tuple| self.meets(tuple, Fate::Filtered));
            all.truncate(limit);
            if limit == 0 {
                return Ok(None);
            }
        }
        let left = members(&all);
        let mut shown = Vec::new();
        for entry in &all {
            let scope = in_group(query, &entry.1, &entry.2, bounds, aggregated, Some(entry.0.number));
            match self.project(&scope) {
                Ok(row) => shown.push(row),
                Err(why) => return self.dies(why, &left),
            }
        }
        left.iter().for_each(|tuple| self.meets(tuple, Fate::Out));
        Ok(Some(shown))
    }

    fn tried(&self, scope: &Scope<'_>) -> Got<()> {
        for (expr, within) in expressions(&self.query.select) {
            let of_rows = |clause: &Option<Expr>| clause.as_ref().is_some_and(|clause| std::ptr::eq(clause, expr));
            if !of_rows(&self.query.select.filter) {
                try_all(expr, &Scope { within, ..*scope })?;
            }
        }
        Ok(())
    }

    /// ORDER BY: NULL is last in both directions, equal rows stay as they are; the kinds of a key must fit.
    fn sort<T>(&self, rows: &mut [(Vec<Value>, T)]) -> Got<()> {
        let sorts = &self.query.select.order;
        for n in 0..sorts.len() {
            let keys: Vec<&Value> = rows.iter().map(|(keys, _)| &keys[n]).filter(|key| !key.is_null()).collect();
            for key in &keys {
                match key {
                    Value::Bool(_) if matches!(keys[0], Value::Bool(_)) => {}
                    Value::Array(_) | Value::Object(_) => return fails("ORDER BY an array or object"),
                    _ => drop(order(keys[0], key)?),
                }
            }
        }
        rows.sort_by(|(a, _), (b, _)| {
            let mut keys = sorts.iter().zip(a.iter().zip(b));
            keys.find_map(|(sort, (a, b))| {
                let found = match (a, b) {
                    (Value::Null, Value::Null) => return None,
                    (Value::Null, _) => return Some(Ordering::Greater),
                    (_, Value::Null) => return Some(Ordering::Less),
                    (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
                    (a, b) => order(a, b).unwrap_or(Ordering::Equal),
                };
                Some(if sort.descending { found.reverse() } else { found }).filter(|found| found.is_ne())
            })
            .unwrap_or(Ordering::Equal)
        });
        Ok(())
    }

    /// The row that leaves (chapter 6).
    fn project(&self, scope: &Scope<'_>) -> Got<Object> {
        let query = self.query;
        let mut out = Object::new();
        let mut unnamed = 0;
        for field in &query.select.fields {
            if let ExprNode::Wildcard(wildcard) = &field.expr.node {
                // What is written out wins over what `*` gives, wherever it stands.
                for (name, value) in all_columns(wildcard, scope)? {
                    if !out.contains(&name) {
                        out.insert(name, value);
                    }
                }
                continue;
            }
            // What is not shown is computed where something reads it, and cannot fail otherwise.
            if field.invisible {
                let named = matches!(field.expr.node, ExprNode::Name(_) | ExprNode::Dotted(..) | ExprNode::Call(_));
                unnamed += usize::from(field.alias.is_none() && !named);
                continue;
            }
            let alias = field.alias.as_ref().map(|alias| &alias.name);
            let plain = match &field.expr.node {
                ExprNode::Name(name) if query.alias(name).is_none() => Some((name, column(name, scope.tuple))),
                ExprNode::Dotted(of, name) => {
                    query.source(of).map(|stream| (name, qualified(stream, name, scope.tuple)))
                }
                _ => None,
            };
            let (name, value) = match (alias, plain) {
                (None, Some((name, value))) => {
                    (name.clone(), value.or(if query.send_nil { Some(Value::Null) } else { None }))
                }
                _ => {
                    let value = eval(&field.expr, &Scope { within: alias.map(|name| name.as_str()), ..*scope })?;
                    let collects =
                        matches!(&field.expr.bare().node, ExprNode::Call(call) if query.func(call).name == "collect");
                    let shown = !value.is_null() || collects || (query.send_nil && alias.is_some());
                    let name = match (alias, &field.expr.node) {
                        (Some(alias), _) => alias.clone(),
                        (None, ExprNode::Name(name) | ExprNode::Dotted(_, name)) => name.clone(),
                        (None, ExprNode::Call(call)) => query.func(call).name.into(),
                        _ => {
                            unnamed += 1;
                            Text::from(format!("kuiper_field_{}", unnamed - 1))
                        }
                    };
                    (name, shown.then_some(value))
                }
            };
            if let Some(value) = value {
                out.insert(name, value);
            }
        }
        Ok(out)
    }
}

/// A row of a window, or a group of rows.
#[derive(Clone)]
struct Unit {
    first: Tuple,
    rows: Vec<Tuple>,
    number: i64,
}

impl Unit {
    fn members(&self, aggregated: bool) -> Vec<Tuple> {
        if aggregated { self.rows.clone() } else { vec![self.first.clone()] }
    }
}

fn in_group<'a>(
    query: &'a Query,
    tuple: &'a Tuple,
    group: &'a [Tuple],
    bounds: Option<(i64, i64)>,
    aggregated: bool,
    number: Option<i64>,
) -> Scope<'a> {
    Scope { query, tuple, group: Some(group), bounds, number, within: None, aggregated }
}
