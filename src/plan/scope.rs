use std::sync::Arc;

use crate::codec::{Wanted, WantedColumn};
use crate::data::{Kind, Text, Value};
use crate::diag::{Diagnostic, Span};
use crate::expr::{Bound, Bounds, Key, RowShape, Scope, bind};
use crate::func::{Catalogue, Func, Special, aggregate};
use crate::sql::{Call, Expr, ExprNode, Field, Wildcard};

use super::Stream;
use super::node::{Aggregated, Resolved};
use super::special::{Specials, waiting};

/// How many aliases may read one another, each the next.
const CHAIN: usize = 128;

/// When an alias is computed. The smaller comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// With the analytic functions, of every row that comes.
    Analytic,
    /// Before WHERE.
    Where,
    /// Before the window.
    Group,
    /// After the window, before HAVING.
    Having,
    /// After row numbers are given, before ORDER BY.
    Order,
    /// In the projection.
    Select,
}

/// A select field with an alias, while and after it is bound.
pub struct Alias<'a> {
    pub name: Text,
    pub field: &'a Field,
    pub state: AliasState,
    /// Set once something else reads it.
    pub slot: Option<usize>,
    pub stage: Stage,
    /// The first stage at which it can be computed.
    pub earliest: Stage,
    /// Aliases that it reads.
    pub reads: Vec<usize>,
    /// How many aliases the longest chain of them has that ends with it.
    pub chain: usize,
    pub aggregated: bool,
}

impl Alias<'_> {
    /// How it is read from its slot. An expression that remembers nothing can be asked again where it failed, so that
    /// its error is met only by who needs its value.
    pub fn read_at(&self, slot: usize) -> Bound {
        match &self.state {
            AliasState::Bound(bound) if bound.is_pure() => Bound::Alias(slot, self.name.clone(), bound.clone()),
            _ => Bound::Slot(slot, self.name.clone()),
        }
    }
}

/// How far the binding of an alias has come.
#[derive(Clone)]
pub enum AliasState {
    Waiting,
    Binding,
    Bound(Arc<Bound>),
    Failed,
    /// It stands for several rows.
    Rows,
}

/// What names mean in one statement, and the slots that they have been given.
pub struct Names<'a> {
    pub stream: &'a Stream,
    pub stream_alias: Option<Text>,
    pub funcs: &'a Catalogue,
    pub wanted: Wanted,
    pub resolved: Vec<Resolved>,
    pub aliases: Vec<Alias<'a>>,
    pub calls: Vec<Aggregated>,
    pub special: Specials,
    pub bounds: Bounds,
    pub windowed: bool,
    /// `basic.ignoreCase`
    pub ignore_case: bool,
    /// The clause that is being bound.
    pub stage: Stage,
    /// Word for the clause in messages.
    pub clause: &'static str,
    /// Aliases whose expressions are being bound, outermost first.
    pub binding: Vec<usize>,
    pub in_aggregate: bool,
    /// Whether an aggregate was met since this was last cleared.
    pub met_aggregate: bool,
}

impl<'a> Names<'a> {
    pub fn new(
        stream: &'a Stream,
        stream_alias: Option<Text>,
        funcs: &'a Catalogue,
        fields: &'a [Field],
        windowed: bool,
        ignore_case: bool,
    ) -> Self {
        let aliases = fields
            .iter()
            .filter_map(|field| Some((field, field.alias.as_ref()?)))
            .map(|(field, alias)| Alias {
                name: alias.name.clone(),
                field,
                state: waiting(field, funcs),
                slot: None,
                stage: Stage::Select,
                earliest: Stage::Analytic,
                reads: Vec::new(),
                chain: 1,
                aggregated: false,
            })
            .collect();
        Names {
            stream,
            stream_alias,
            funcs,
            wanted: Wanted::default(),
            resolved: Vec::new(),
            aliases,
            calls: Vec::new(),
            special: Specials::default(),
            bounds: Bounds::default(),
            windowed,
            ignore_case,
            stage: Stage::Select,
            clause: "SELECT",
            binding: Vec::new(),
            in_aggregate: false,
            met_aggregate: false,
        }
    }

    /// A slot for something that is computed.
    pub fn fresh(&mut self) -> usize {
        self.wanted.width += 1;
        self.wanted.width - 1
    }

    /// The slot of a column of the stream; it is decoded from now on.
    pub fn column(&mut self, name: &Text, span: Span) -> Result<Bound, Diagnostic> {
        let exact = match self.wanted.columns.iter().find(|column| column.name == *name) {
            Some(known) => known.slot,
            None => {
                let kind = self.declared(name, span)?;
                let slot = self.fresh();
                self.wanted.columns.push(WantedColumn { name: name.clone(), slot, kind });
                slot
            }
        };
        // Declared columns are decoded by their exact names, and there is nothing else to look in.
        if !self.ignore_case || !self.is_open() {
            return Ok(Bound::Slot(exact, name.clone()));
        }
        let slot = match self.resolved.iter().find(|column| column.exact == exact) {
            Some(known) => known.slot,
            None => {
                self.rest();
                let slot = self.fresh();
                self.resolved.push(Resolved { name: name.clone(), exact, slot });
                slot
            }
        };
        Ok(Bound::Slot(slot, name.clone()))
    }

    /// Whether messages can have columns that no one declared.
    fn is_open(&self) -> bool {
        self.stream.columns.is_empty() && !self.stream.binary
    }

    /// The slot of the object of all columns that have none of their own.
    fn rest(&mut self) -> usize {
        let slot = self.wanted.rest.unwrap_or_else(|| self.fresh());
        self.wanted.rest = Some(slot);
        slot
    }

    /// Whether the slot holds a column of the stream.
    pub fn is_column(&self, slot: usize) -> bool {
        self.wanted.columns.iter().any(|column| column.slot == slot)
            || self.resolved.iter().any(|column| column.slot == slot)
    }

    fn declared(&self, name: &Text, span: Span) -> Result<Option<Kind>, Diagnostic> {
        if self.stream.columns.is_empty() {
            return Ok(None);
        }
        match self.stream.columns.iter().find(|column| column.name == *name) {
            Some(column) => Ok(Some(column.kind.clone())),
            None => {
                let message = format!("stream `{}` has no column `{name}`", self.stream.name);
                let names = self.stream.columns.iter().map(|column| column.name.as_str());
                let aliases = self.aliases.iter().map(|alias| alias.name.as_str());
                Err(Diagnostic::error("K0214", message).at(span).suggest(name, names.chain(aliases)))
            }
        }
    }

    /// Every column of the stream, for `*`.
    pub fn all_columns(&mut self, wildcard: &Wildcard, span: Span) -> Result<RowShape, Diagnostic> {
        if let Some(of) = &wildcard.of
            && !self.is_stream(of)
        {
            let found = Diagnostic::error("K0218", format!("`{of}.*` names no stream of this statement")).at(span);
            return Err(found.help(format!("the stream is `{}`", self.stream.name)));
        }
        let rest = if self.is_open() {
            Some(self.rest())
        } else {
            let names: Vec<Text> = if self.stream.columns.is_empty() {
                vec![Text::const_new("self")]
            } else {
                self.stream.columns.iter().map(|column| column.name.clone()).collect()
            };
            for name in &names {
                self.column(name, span)?;
            }
            None
        };
        let columns = self.wanted.columns.iter().map(|column| (column.name.clone(), column.slot)).collect();
        let except = wildcard.except.iter().map(|name| name.name.clone()).collect();
        Ok(RowShape { columns, rest, except })
    }

    pub fn is_stream(&self, name: &str) -> bool {
        self.stream.name == name || self.stream_alias.as_deref() == Some(name)
    }

    fn alias(&self, name: &str) -> Option<usize> {
        let usable = |n: &usize| self.binding.last() != Some(n);
        let find = |same: &dyn Fn(&str) -> bool| {
            self.aliases.iter().enumerate().filter(|(_, alias)| same(&alias.name)).map(|(n, _)| n).find(usable)
        };
        find(&|alias| alias == name).or_else(|| {
            // A column of exactly that name is nearer than an alias that differs by case.
            if self.stream.columns.iter().any(|column| column.name == name) {
                return None;
            }
            // Within its own expression the name means the column, whatever its case.
            find(&|alias| alias.eq_ignore_ascii_case(name))
        })
    }

    /// Binds an alias, if that has not been done, and returns what a reader of it reads.
    fn read_alias(&mut self, n: usize, span: Span) -> Result<Bound, Vec<Diagnostic>> {
        self.bind_alias(n, span)?;
        if let Some(reader) = self.binding.last() {
            self.aliases[*reader].reads.push(n);
            let Alias { aggregated, earliest, chain, .. } = self.aliases[n];
            let reader = &mut self.aliases[*reader];
            reader.aggregated |= aggregated;
            reader.earliest = reader.earliest.max(earliest);
            reader.chain = reader.chain.max(chain + 1);
            if reader.chain > CHAIN {
                return Err(vec![too_long(span)]);
            }
        }
        if self.aliases[n].earliest > self.stage || (self.in_aggregate && self.aliases[n].earliest > Stage::Group) {
            let place = if self.in_aggregate { "an aggregate" } else { self.clause };
            let message = format!("`{}` is known only behind {place}, and cannot be read in it", self.aliases[n].name);
            return Err(vec![Diagnostic::error("K0246", message).at(span)]);
        }
        if self.aliases[n].aggregated {
            if self.in_aggregate {
                let name = &self.aliases[n].name;
                let message = format!("`{name}` is an aggregate and cannot stand inside another");
                return Err(vec![Diagnostic::error("K0219", message).at(span)]);
            }
            self.refuse_aggregate(&self.aliases[n].name.clone(), span)?;
            self.met_aggregate = true;
        }
        let stage = if self.in_aggregate { self.stage.min(Stage::Group) } else { self.stage };
        self.need(n, stage);
        // A plain rename is the column itself; no slot of its own is needed.
        if let AliasState::Bound(bound) = &self.aliases[n].state
            && let Bound::Slot(..) | Bound::Const(_) | Bound::Alias(..) = **bound
        {
            return Ok(Bound::clone(bound));
        }
        let slot = match self.aliases[n].slot {
            Some(slot) => slot,
            None => {
                let slot = self.fresh();
                self.aliases[n].slot = Some(slot);
                slot
            }
        };
        Ok(self.aliases[n].read_at(slot))
    }

    /// The alias, and all that it reads, is needed at that stage.
    fn need(&mut self, n: usize, stage: Stage) {
        // What reads the bounds of the window is known only behind it; before, its readers look into it.
        let stage = if self.reads_window(n) { stage.max(Stage::Having) } else { stage };
        if self.aliases[n].stage > stage {
            self.aliases[n].stage = stage;
        }
        for read in self.aliases[n].reads.clone() {
            if self.aliases[read].stage > stage {
                self.need(read, stage);
            }
        }
    }

    fn reads_window(&self, n: usize) -> bool {
        let AliasState::Bound(bound) = &self.aliases[n].state else { return false };
        let bounds = [self.bounds.start, self.bounds.end, self.bounds.trigger];
        bound.slots().into_iter().any(|slot| bounds.contains(&Some(slot)))
    }

    /// Binds the expression of an alias once.
    pub fn bind_alias(&mut self, n: usize, span: Span) -> Result<(), Vec<Diagnostic>> {
        match self.aliases[n].state {
            AliasState::Bound(_) => return Ok(()),
            // It was told where it stands; say nothing twice.
            AliasState::Failed => return Err(Vec::new()),
            AliasState::Rows => {
                let message = format!("`{}` stands for several rows and cannot be read here", self.aliases[n].name);
                let found = Diagnostic::error("K0242", message).at(span);
                return Err(vec![found.help("what is computed of these rows belongs into a second rule")]);
            }
            AliasState::Binding => {
                let names: Vec<&str> = self.binding.iter().map(|n| self.aliases[*n].name.as_str()).collect();
                let message = format!("the aliases {} read each other in a circle", quoted(&names));
                return Err(vec![Diagnostic::error("K0205", message).at(span)]);
            }
            AliasState::Waiting if self.binding.len() >= CHAIN => return Err(vec![too_long(span)]),
            AliasState::Waiting => {}
        }
        self.aliases[n].state = AliasState::Binding;
        self.binding.push(n);
        let outer = (self.stage, self.clause, self.in_aggregate, self.met_aggregate);
        (self.stage, self.clause, self.in_aggregate, self.met_aggregate) = (Stage::Select, "SELECT", false, false);
        let field: &Field = self.aliases[n].field;
        let funcs = self.funcs;
        let bound = bind(&field.expr, self, funcs);
        self.aliases[n].aggregated |= self.met_aggregate;
        (self.stage, self.clause, self.in_aggregate, self.met_aggregate) = outer;
        self.binding.pop();
        match bound {
            Ok(bound) => {
                self.aliases[n].state = AliasState::Bound(Arc::new(bound));
                Ok(())
            }
            Err(found) => {
                self.aliases[n].state = AliasState::Failed;
                Err(found)
            }
        }
    }

    pub fn refuse_aggregate(&self, name: &str, span: Span) -> Result<(), Vec<Diagnostic>> {
        if self.stage >= Stage::Having {
            return Ok(());
        }
        let message = format!("`{name}` is an aggregate and cannot stand in {}", self.clause);
        Err(vec![Diagnostic::error("K0216", message).at(span).help("conditions on aggregates stand in HAVING")])
    }

    fn aggregate(&mut self, call: &Call, func: &'static Func, span: Span) -> Result<Bound, Vec<Diagnostic>> {
        if self.in_aggregate {
            let message = format!("`{}` is an aggregate and cannot stand inside another", func.name);
            return Err(vec![Diagnostic::error("K0219", message).at(span)]);
        }
        self.refuse_aggregate(func.name, span)?;
        if let Some(over) = &call.over {
            let message = format!("`{}` takes no OVER", func.name);
            return Err(vec![
                Diagnostic::error("K0215", message).at(over.span).help("aggregates follow the GROUP BY clause"),
            ]);
        }
        self.in_aggregate = true;
        let funcs = self.funcs;
        let mut found = Vec::new();
        let mut args = Vec::new();
        if aggregate::wants_row(func) {
            let row = self.all_columns(&Wildcard::default(), span);
            args.extend(row.map(|shape| Bound::Row(Box::new(shape))).map_err(|problem| found.push(problem)));
        }
        let mut part = |names: &mut Self, expr: &Expr| match bind(expr, names, funcs) {
            Ok(bound) => Some(bound),
            Err(more) => {
                found.extend(more);
                None
            }
        };
        for arg in &call.args {
            args.extend(match counted(func, arg) {
                true => Some(Bound::Row(Box::default())),
                false => part(self, arg),
            });
        }
        let filter = call.filter.as_ref().and_then(|filter| part(self, filter));
        self.in_aggregate = false;
        if !found.is_empty() {
            return Err(found);
        }
        self.met_aggregate = true;
        let mut wanted = Aggregated { func, args, distinct: call.distinct, filter, slot: 0 };
        let once = func.pure && wanted.args.iter().chain(&wanted.filter).all(Bound::is_pure);
        if let Some(known) = self.calls.iter().find(|known| once && known.is_same(&wanted)) {
            return Ok(Bound::Slot(known.slot, Text::new(format!("{known:?}"))));
        }
        wanted.slot = self.fresh();
        let bound = Bound::Slot(wanted.slot, Text::new(format!("{wanted:?}")));
        self.calls.push(wanted);
        Ok(bound)
    }

    fn window_bound(&mut self, name: &str) -> Bound {
        if !self.windowed || self.stage == Stage::Analytic {
            return Bound::Const(Value::Null);
        }
        let known = match name {
            "window_start" => self.bounds.start,
            "window_end" => self.bounds.end,
            _ => self.bounds.trigger,
        };
        let slot = known.unwrap_or_else(|| self.fresh());
        match name {
            "window_start" => self.bounds.start = Some(slot),
            "window_end" => self.bounds.end = Some(slot),
            _ => self.bounds.trigger = Some(slot),
        }
        Bound::Slot(slot, Text::new(format!("{name}()")))
    }
}

impl Scope for Names<'_> {
    fn name(&mut self, name: &Text, span: Span) -> Result<Bound, Diagnostic> {
        match self.alias(name) {
            Some(n) => self.read_alias(n, span).map_err(|found| first(found, name, span)),
            None => self.column(name, span),
        }
    }

    fn dotted(&mut self, qualifier: &Text, name: &Text, span: Span) -> Result<Bound, Diagnostic> {
        if self.is_stream(qualifier) {
            return self.column(name, span);
        }
        // With a schema, a qualifier that is no column either is most likely a stream that is not listed.
        let known =
            self.stream.columns.is_empty() || self.stream.columns.iter().any(|column| column.name == *qualifier);
        if !known && self.alias(qualifier).is_none() {
            let message = format!("`{qualifier}` is neither a stream nor a column of this statement");
            let streams = std::iter::once(self.stream.name.as_str());
            let columns = self.stream.columns.iter().map(|column| column.name.as_str());
            return Err(Diagnostic::error("K0220", message).at(span).suggest(qualifier, streams.chain(columns)));
        }
        let key = Key { name: name.clone(), any_case: self.ignore_case };
        Ok(Bound::Member(Box::new(self.name(qualifier, span)?), key))
    }

    fn is_source(&self, name: &Text) -> bool {
        self.is_stream(name)
    }

    fn any_case(&self) -> bool {
        self.ignore_case
    }

    fn wildcard(&mut self, wildcard: &Wildcard, span: Span) -> Result<RowShape, Diagnostic> {
        if !wildcard.replace.is_empty() {
            let found = Diagnostic::error("K0222", "`* REPLACE` cannot be an argument").at(span);
            return Err(found.help("write the expression as a field of its own"));
        }
        self.all_columns(wildcard, span)
    }

    fn planned(&mut self, call: &Call, func: &'static Func, span: Span) -> Result<Bound, Vec<Diagnostic>> {
        use crate::func::Body;
        match func.body {
            Body::Aggregate(_) | Body::GuestAggregate(_) => self.aggregate(call, func, span),
            Body::Special(Special::WindowBound) => Ok(self.window_bound(func.name)),
            Body::Special(Special::EventTime) => Ok(Bound::RowTime),
            Body::Special(what) => self.special(what, call, func, span),
            _ => Err(vec![Diagnostic::error("K0224", format!("`{}` cannot stand here", func.name)).at(span)]),
        }
    }
}

fn too_long(span: Span) -> Diagnostic {
    let found = Diagnostic::error("K0248", format!("a chain of more than {CHAIN} aliases, each reading the next"));
    found.at(span).help("write a part of it as one expression, or split the rule")
}

/// The finding to show for a name; an alias that failed was told where it is defined.
fn first(found: Vec<Diagnostic>, name: &str, span: Span) -> Diagnostic {
    let told =
        || Diagnostic::error("K0225", format!("the alias `{name}` cannot be used, since its own expression is wrong"));
    found.into_iter().next().unwrap_or_else(|| told().at(span))
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Whether it is the `*` of `count(*)`, which asks for no column: a row is there whatever is in it.
pub fn counted(func: &Func, arg: &Expr) -> bool {
    func.name == "count" && matches!(arg.bare().node, ExprNode::Wildcard(_))
}

/// All names in an expression that could be columns, so that `*` knows what stands in slots of its own.
pub fn mentioned(expr: &Expr, names: &mut Vec<Text>, qualifiers: &dyn Fn(&str) -> bool) {
    match &expr.node {
        ExprNode::Name(name) => names.push(name.clone()),
        ExprNode::Dotted(first, second) => names.push(if qualifiers(first) { second.clone() } else { first.clone() }),
        ExprNode::Call(call)
            if call.name.name.eq_ignore_ascii_case("meta") || call.name.name.eq_ignore_ascii_case("mqtt") => {}
        _ => expr.parts(&mut |part| mentioned(part, names, qualifiers)),
    }
}
