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
use super::event::{self, Order, stamp};
use super::expr::{all_columns, column, condition, eval, order, passes, qualified};
use super::join::{RETAINED, is_table, joined};
use super::query::{Got, Query, Row, Scope, Stop, Tuple, fails};
use super::window::{self, Firing};

/// What became of a row in one result; of several the greatest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Held,
    Filtered,
    Out,
    Late,
    Dead,
}

struct Run<'a> {
    case: &'a Case,
    query: &'a Query,
    /// Each with what it is ordered by.
    emissions: Vec<((i64, usize, usize), Emission)>,
    fates: Vec<Fate>,
    /// All rows of scan tables.
    tables: Vec<Rc<Row>>,
}

/// What the rule must give out.
///
/// # Errors
/// The reference leaves it open.
pub fn evaluate(case: &Case) -> Result<Expected, String> {
    let query = Query::new(case);
    if case.rows.iter().any(|row| query.sources.iter().all(|(name, _)| name != row.stream)) {
        return Err("a row of no source".to_string());
    }
    let mut run = Run {
        case,
        query: &query,
        emissions: Vec::new(),
        fates: vec![Fate::Held; case.rows.len()],
        tables: Vec::new(),
    };
    match run.all() {
        Ok(()) => {}
        Err(Stop::Open(why) | Stop::Fails(why)) => return Err(why),
    }
    run.emissions.sort_by_key(|(when, _)| *when);
    let emissions = run.emissions.into_iter().map(|(_, emission)| emission).collect();
    Ok(Expected { emissions, ledger: ledger(&query, case.has("isEventTime"), &run.fates) })
}

/// Windows that overlap hold their rows for later ones; theirs is not predicted. Nor is that of rows that fail WHERE
/// behind a window: whether they are held until it closes makes no difference to what comes out.
fn ledger(query: &Query, event: bool, fates: &[Fate]) -> Vec<(&'static str, usize)> {
    let kinds = [WindowKind::Hopping, WindowKind::Sliding, WindowKind::Count];
    let joins = !query.select.joins.is_empty();
    let behind = event && !query.select.windows.is_empty() && query.select.filter.is_some();
    if joins
        || behind
        || query.select.windows.iter().any(|window| kinds.contains(&window.kind) || window.kind == WindowKind::State)
    {
        return Vec::new();
    }
    let count = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count();
    vec![
        ("in", fates.len()),
        ("out", count(Fate::Out)),
        ("filtered", count(Fate::Filtered)),
        ("late", count(Fate::Late)),
        ("held", count(Fate::Held)),
        ("dead", count(Fate::Dead)),
    ]
}

impl Run<'_> {
    fn all(&mut self) -> Got<()> {
        let (case, query) = (self.case, self.query);
        let streams: Vec<&str> =
            query.sources.iter().map(|(name, _)| name.as_str()).filter(|name| !is_table(name)).collect();
        let order = case.has("isEventTime").then(|| Order::new(case, &streams));
        let mut history = History::default();
        let mut accepted: Vec<Tuple> = Vec::new();
        for row in self.arrive(order.as_ref()) {
            if is_table(&row.stream) {
                self.tables.push(row);
                continue;
            }
            match self.accepts(&mut history, &row) {
                Ok(true) => accepted.push(vec![row]),
                Ok(false) => self.fates[row.number] = Fate::Filtered,
                Err(Stop::Fails(why)) => {
                    self.fates[row.number] = Fate::Dead;
                    self.emit((row.at, row.by, row.place), Err(why));
                }
                Err(open) => return Err(open),
            }
        }
        let fired = match (query.select.windows.first(), &order) {
            (Some(window), Some(order)) => event::firings(query, window, &accepted, case, order)?,
            (Some(window), None) => window::firings(query, window, &accepted, case)?,
            (None, _) if query.select.joins.is_empty() => {
                return accepted.into_iter().try_for_each(|tuple| self.single(&tuple));
            }
            // Beside a table each row is a list of its own.
            (None, _) => accepted.into_iter().map(Firing::alone).collect(),
        };
        for firing in fired {
            let when = (firing.at, firing.cause.unwrap_or(usize::MAX), firing.place);
            match self.fire(&firing) {
                Ok(Some(rows)) => self.emit(when, Ok(rows)),
                Ok(None) => {}
                Err(Stop::Fails(why)) => self.emit(when, Err(why)),
                Err(open) => return Err(open),
            }
        }
        Ok(())
    }

    /// The rows in the order in which the rule sees them.
    fn arrive(&mut self, order: Option<&Order>) -> Vec<Rc<Row>> {
        let case = self.case;
        let mut rows = Vec::new();
        for (number, arriving) in case.rows.iter().enumerate() {
            let time = match order.map(|_| stamp(case, &arriving.data)) {
                None => arriving.at,
                Some(Ok(time)) => time,
                Some(Err(why)) => {
                    self.fates[number] = Fate::Dead;
                    self.emit((arriving.at, number, 0), Err(why));
                    continue;
                }
            };
            if order.is_some_and(|order| order.is_late(number, time)) {
                self.fates[number] = Fate::Late;
                continue;
            }
            let stream = arriving.stream.into();
            let (data, looked) = (arriving.data.clone(), RefCell::new(HashMap::new()));
            rows.push(Row { number, stream, at: arriving.at, by: number, place: number, time, data, looked });
        }
        if let Some(order) = order {
            rows.retain(|row| order.release(row.number, row.time).is_some());
            rows.iter_mut().for_each(|row| row.by = order.release(row.number, row.time).unwrap());
            rows.sort_by_key(|row| (row.by, row.time, row.number));
            for (place, row) in rows.iter_mut().enumerate() {
                (row.at, row.place) = (case.rows[row.by].at, place);
            }
        }
        rows.into_iter().map(Rc::new).collect()
    }

    /// Where an emission stands: its time, the arrival that caused it, the place behind that.
    fn emit(&mut self, when: (i64, usize, usize), body: Result<Vec<Object>, String>) {
        if body.is_ok() || self.case.has("sendError") {
            self.emissions.push((when, Emission { at: when.0, body }));
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
        if !select.joins.is_empty() {
            return false;
        }
        // One with aggregates looks at all rows of a window, and in event time none is before it.
        let looks = self.case.has("isEventTime")
            || select.filter.as_ref().is_some_and(|filter| self.query.has_aggregate(filter, None));
        let late = |kind: WindowKind| looks || matches!(kind, WindowKind::Count | WindowKind::Sliding);
        !select.windows.iter().any(|window| late(window.kind))
    }

    /// What happens to a row when it arrives.
    fn accepts(&self, history: &mut History, row: &Rc<Row>) -> Got<bool> {
        let select = &self.query.select;
        history.show(self.query, row)?;
        let tuple = vec![row.clone()];
        let below = select.filter.as_ref().filter(|_| self.where_is_below());
        let filters = below.into_iter().chain(select.windows.iter().filter_map(|window| window.filter.as_ref()));
        for filter in filters {
            try_all(filter, &self.scope(&tuple))?;
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
                self.emit((row.at, row.by, row.place), Ok(vec![shown]));
            }
            Err(Stop::Fails(why)) => {
                self.meets(tuple, Fate::Dead);
                self.emit((row.at, row.by, row.place), Err(why));
            }
            Err(open) => return Err(open),
        }
        Ok(())
    }

    /// What comes of a window; nothing where no row is left of it.
    fn fire(&mut self, firing: &Firing) -> Got<Option<Vec<Object>>> {
        let query = self.query;
        let select = &query.select;
        let bounds = select.windows.first().map(|_| (query.start + firing.start, query.start + firing.end));
        let mut tuples = firing.rows.clone();
        if !select.joins.is_empty() {
            tuples = joined(query, &firing.rows, &self.kept_rows(firing), bounds)?;
            if tuples.is_empty() {
                return Ok(None);
            }
        }
        if let Some(filter) = select.filter.as_ref().filter(|_| !self.where_is_below()) {
            let (mut kept, mut gone) = (Vec::new(), Vec::new());
            for tuple in &tuples {
                let scope = Scope { bounds, group: Some(&tuples), ..self.scope(tuple) };
                match try_all(filter, &scope).and_then(|()| passes(filter, &scope)) {
                    Ok(true) => kept.push(tuple.clone()),
                    Ok(false) => gone.push(tuple.clone()),
                    Err(why) => return self.dies(why, &firing.rows),
                }
            }
            gone.iter().for_each(|tuple| self.meets(tuple, Fate::Filtered));
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

    /// The rows of tables that are kept when a window is given out.
    fn kept_rows(&self, firing: &Firing) -> Vec<Rc<Row>> {
        let came = |row: &&Rc<Row>| firing.cause.map_or(row.at < firing.at, |cause| row.number < cause);
        let mut kept: Vec<Rc<Row>> = Vec::new();
        for (name, _) in self.query.sources.iter().filter(|(name, _)| is_table(name)) {
            let of: Vec<&Rc<Row>> = self.tables.iter().filter(|row| row.stream == *name).filter(came).collect();
            kept.extend(of[of.len().saturating_sub(RETAINED)..].iter().map(|row| Rc::clone(row)));
        }
        kept
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
