//! A whole rule, by definition: all rows in memory, one clause after the other, in the order of chapter 16.1.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use kuiper::data::{Object, Text, Value};
use kuiper::sql::{Expr, ExprNode, Window, WindowKind};

use super::aggregate::try_all;
use super::analytic::{History, expressions, printed};
use super::case::{Case, Emission, Expected};
use super::changed::{Changes, changes_open, parts};
use super::event::{self, Order, stamp};
use super::expr::{all_columns, column, condition, eval, passes, qualified};
use super::join::{RETAINED, Told, conjuncts, content, is_lookup, is_table, joined};
use super::query::{Got, Query, Row, Scope, Stop, Tuple};
use super::rank::{numbered, places, sort};
use super::rows;
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
    /// What lookup tables were told.
    lookups: Vec<Told>,
    changes: Changes,
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
    // A row that WHERE takes out before such a window neither opens nor closes it.
    let rows_matter = |window: &Window| matches!(window.kind, WindowKind::Session | WindowKind::State);
    let asks = query.sources.iter().any(|(name, _)| is_lookup(name));
    if asks && query.select.filter.is_some() && query.select.windows.iter().any(rows_matter) {
        return Err("whether WHERE is asked before the window".to_string());
    }
    let mut run = Run {
        case,
        query: &query,
        emissions: Vec::new(),
        fates: vec![Fate::Held; case.rows.len()],
        tables: Vec::new(),
        lookups: Vec::new(),
        changes: Changes::default(),
    };
    match run.all() {
        Ok(()) => {}
        Err(Stop::Open(why) | Stop::Fails(why)) => return Err(why),
    }
    run.emissions.sort_by_key(|(when, _)| *when);
    let emissions = run.emissions.into_iter().map(|(_, emission)| emission).collect();
    Ok(Expected { emissions, ledger: ledger(case, &query, &run.fates) })
}

/// Windows that overlap hold their rows for later ones; theirs is not predicted. When WHERE is asked of rows that wait for
/// an event-time window is open, so the terms between which that makes a difference are not either.
fn ledger(case: &Case, query: &Query, fates: &[Fate]) -> Vec<(&'static str, usize)> {
    let kinds = [WindowKind::Hopping, WindowKind::Sliding, WindowKind::Count];
    let joins = !query.select.joins.is_empty();
    if joins
        || query.select.windows.iter().any(|window| kinds.contains(&window.kind) || window.kind == WindowKind::State)
    {
        return Vec::new();
    }
    let count = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count();
    let mut terms = vec![("in", fates.len()), ("out", count(Fate::Out)), ("late", count(Fate::Late))];
    if !case.has("isEventTime") || query.select.filter.is_none() || query.select.windows.is_empty() {
        let open = [("filtered", Fate::Filtered), ("held", Fate::Held), ("dead", Fate::Dead)];
        terms.extend(open.map(|(term, fate)| (term, count(fate))));
    }
    terms
}

impl Run<'_> {
    fn all(&mut self) -> Got<()> {
        let (case, query) = (self.case, self.query);
        let streams: Vec<&str> = query
            .sources
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !is_table(name) && !is_lookup(name))
            .collect();
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
            if is_lookup(arriving.stream) {
                let (at, data, looked) = (arriving.at, arriving.data.clone(), RefCell::default());
                let stream = arriving.stream.into();
                let row = Row { number, stream, at, by: number, place: number, time: at, data, looked };
                self.lookups.push(Told { row: Rc::new(row), delete: arriving.delete });
                continue;
            }
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
            let data = match case.is_declared() {
                true => {
                    Object::from_iter(arriving.data.iter().map(|(name, value)| (name.clone(), rows::decoded(value))))
                }
                false => arriving.data.clone(),
            };
            let looked = RefCell::new(HashMap::new());
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
        Scope { query: self.query, tuple, group: None, bounds: None, numbers: None, within: None, aggregated: false }
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
        if !select.joins.is_empty() {
            for part in select.filter.iter().flat_map(conjuncts) {
                if matches!(passes(part, &self.scope(&tuple)), Err(Stop::Fails(_))) {
                    return Err(Stop::Open("WHERE fails on a row that may not be joined".into()));
                }
            }
        }
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
            Err(Stop::Fails(_)) if self.remembers_changes() => return Err(changes_open()),
            Ok(shown) => {
                self.meets(tuple, Fate::Out);
                // Each row that is made of one leaves by itself.
                for row_of in shown.into_iter().take(self.limit()) {
                    self.emit((row.at, row.by, row.place), Ok(vec![row_of]));
                }
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
            Err(Stop::Fails(_)) if self.remembers_changes() => Err(changes_open()),
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
        for (name, _) in self.query.sources.iter().filter(|(name, _)| is_lookup(name)) {
            kept.extend(content(self.lookups.iter().filter(|told| told.row.stream == *name && came(&&told.row))));
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
                        units.push(Unit { first: tuple.clone(), rows: vec![tuple.clone()], numbers: HashMap::new() });
                    }
                }
            }
            if select.group.is_empty() && tuples.is_empty() {
                units.push(Unit { first: Vec::new(), rows: Vec::new(), numbers: HashMap::new() });
            }
            if units.is_empty() {
                return Ok(None);
            }
        } else {
            let unit = |tuple: &Tuple| Unit { first: tuple.clone(), rows: Vec::new(), numbers: HashMap::new() };
            units = tuples.iter().map(unit).collect();
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
        let scopes: Vec<Scope<'_>> =
            all.iter().map(|entry| in_group(query, &entry.1, &entry.2, bounds, aggregated, None)).collect();
        let numbers: Got<Vec<_>> =
            numbered(query).into_iter().map(|(at, over)| Ok((at, places(over, &scopes)?))).collect();
        let numbers = match numbers {
            Ok(numbers) => numbers,
            Err(why) => {
                let left: Vec<Tuple> = all.iter().flat_map(|entry| entry.0.members(aggregated)).collect();
                return self.dies(why, &left);
            }
        };
        for (at, places) in numbers {
            for (entry, place) in all.iter_mut().zip(places) {
                entry.0.numbers.insert(at, place);
            }
        }
        let members = |all: &[(Unit, Tuple, Vec<Tuple>)]| -> Vec<Tuple> {
            all.iter().flat_map(|entry| entry.0.members(aggregated)).collect()
        };
        let left = members(&all);
        if !select.order.is_empty() {
            let mut keyed = Vec::new();
            for entry in all {
                let scope = in_group(query, &entry.1, &entry.2, bounds, aggregated, Some(&entry.0.numbers));
                let keys: Got<Vec<Value>> = select.order.iter().map(|sort| eval(&sort.expr, &scope)).collect();
                match keys {
                    Ok(keys) => keyed.push((keys, entry)),
                    Err(why) => return self.dies(why, &left),
                }
            }
            let descending: Vec<bool> = select.order.iter().map(|sort| sort.descending).collect();
            if let Err(why) = sort(&mut keyed, &descending) {
                return self.dies(why, &left);
            }
            all = keyed.into_iter().map(|(_, entry)| entry).collect();
        }
        let limit = self.limit();
        let makes_rows = select.fields.iter().any(|field| query.rows_call(field).is_some());
        if limit == 0 || (!makes_rows && select.limit.is_some()) {
            members(&all[limit.min(all.len())..]).iter().for_each(|tuple| self.meets(tuple, Fate::Filtered));
            all.truncate(limit);
            if limit == 0 {
                return Ok(None);
            }
        }
        let left = members(&all);
        let (mut shown, mut fates) = (Vec::new(), Vec::new());
        for entry in &all {
            let scope = in_group(query, &entry.1, &entry.2, bounds, aggregated, Some(&entry.0.numbers));
            match self.project(&scope) {
                Ok(rows) => {
                    // What is made of a row behind the limit does not leave.
                    let fate = if shown.len() < limit { Fate::Out } else { Fate::Filtered };
                    fates.extend(entry.0.members(aggregated).into_iter().map(|tuple| (tuple, fate)));
                    shown.extend(rows);
                }
                Err(_) if makes_rows && select.limit.is_some() => {
                    return Err(Stop::Open("what becomes of rows behind the limit where one fails".into()));
                }
                Err(why) => return self.dies(why, &left),
            }
        }
        shown.truncate(limit);
        fates.iter().for_each(|(tuple, fate)| self.meets(tuple, *fate));
        Ok(Some(shown))
    }

    fn remembers_changes(&self) -> bool {
        self.query.select.fields.iter().any(|field| self.query.changed_call(field).is_some())
    }

    /// LIMIT, or more rows than there are.
    fn limit(&self) -> usize {
        let limit = self.query.select.limit.as_ref();
        limit.and_then(|limit| usize::try_from(limit.rows).ok()).unwrap_or(usize::MAX)
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

    /// The rows that leave: one (chapter 6), or those that `unnest` or `extract` makes of it (section 13.1).
    fn project(&self, scope: &Scope<'_>) -> Got<Vec<Object>> {
        let query = self.query;
        let mut out = Object::new();
        let mut unnamed = 0;
        let mut made: Option<(Text, Vec<Value>)> = None;
        for field in &query.select.fields {
            if let Some(call) = query.rows_call(field) {
                let alias = field.alias.as_ref().map(|alias| alias.name.as_str());
                let value = eval(&call.args[0], &Scope { within: alias, ..*scope })?;
                let name = alias.unwrap_or(query.func(call).name);
                made = Some((name.into(), parts(query.func(call).name, &value)?));
                continue;
            }
            if let Some(call) = query.changed_call(field) {
                let alias = field.alias.as_ref().map(|alias| &alias.name);
                let given = self.changes.show(call, alias.map(|name| name.as_str()), scope);
                let given = given.map_err(|_| changes_open())?;
                match alias {
                    None => given.into_iter().for_each(|(name, value)| drop(out.insert(name, value))),
                    Some(alias) if !given.is_empty() => drop(out.insert(alias.clone(), Value::object(given))),
                    Some(alias) if query.send_nil => drop(out.insert(alias.clone(), Value::Null)),
                    Some(_) => {}
                }
                continue;
            }
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
        let Some((name, parts)) = made else { return Ok(vec![out]) };
        let with = |part: Value| {
            let mut row = out.clone();
            match part {
                Value::Object(members) => {
                    members.iter().for_each(|(name, value)| drop(row.insert(name.clone(), value.clone())));
                }
                other => drop(row.insert(name.clone(), other)),
            }
            row
        };
        Ok(parts.into_iter().map(with).collect())
    }
}

/// A row of a window, or a group of rows.
#[derive(Clone)]
struct Unit {
    first: Tuple,
    rows: Vec<Tuple>,
    /// What each call of `row_number` is for it.
    numbers: HashMap<u32, i64>,
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
    numbers: Option<&'a HashMap<u32, i64>>,
) -> Scope<'a> {
    Scope { query, tuple, group: Some(group), bounds, numbers, within: None, aggregated }
}
