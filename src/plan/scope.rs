use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::data::{Text, Value};
use crate::diag::{Diagnostic, Span};
use crate::expr::{Bound, Bounds, Key, Path, RowShape, Scope, bind, nameless};
use crate::func::{Catalogue, Func, Special, aggregate};
use crate::sql::{Call, Expr, ExprNode, Field, Wildcard, print_expr};

use super::aliases::Index;
use super::node::Aggregated;
use super::sources::{Asked, Lookups};
use super::special::{Specials, waiting};

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
    pub aggregated: bool,
    /// Levels of its expression.
    pub height: u32,
    /// Levels of the aliases that it reads.
    pub below: u32,
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

/// Aggregates in WHERE: over all rows of the window before any is taken out, whatever their groups; without a window
/// over each row alone. In slots of their own, since the same call as a field looks at what WHERE has left.
#[derive(Default)]
pub struct OfWhere {
    pub calls: Vec<Aggregated>,
    /// Aliases with aggregates as WHERE reads them: slot, name, expression, each after those that it reads.
    pub aliases: Vec<(usize, Text, Bound)>,
    /// Functions that count hits of whole emissions stand there.
    pub hits: bool,
    /// How WHERE reads an alias.
    reads: HashMap<usize, Bound>,
}

/// What names mean in one statement, and the slots that they have been given.
pub struct Names<'a> {
    /// FROM first, then the joins in their order.
    pub sources: Vec<Asked<'a>>,
    /// The sources in the order in which their columns win over others of the same name.
    pub precedence: Vec<usize>,
    pub lookups: Lookups,
    /// Slots of a row.
    pub width: usize,
    /// The slot that says of which source a row is.
    pub source_slot: Option<usize>,
    pub funcs: &'a Catalogue,
    pub aliases: Vec<Alias<'a>>,
    pub index: Index,
    pub calls: Vec<Aggregated>,
    /// What WHERE asks of all rows of a window.
    pub of_where: OfWhere,
    /// The aggregates that read alike, by whether they stand in WHERE, and their text.
    alike: HashMap<(bool, Text), Vec<usize>>,
    pub special: Specials,
    pub bounds: Bounds,
    pub windowed: bool,
    /// `basic.ignoreCase`
    pub ignore_case: bool,
    /// A name means an alias only behind the place where the alias stands.
    pub aliases_in_order: bool,
    /// The clause that is being bound.
    pub stage: Stage,
    /// Word for the clause in messages.
    pub clause: &'static str,
    /// Aliases whose expressions are being bound, outermost first.
    pub binding: Vec<usize>,
    pub in_aggregate: bool,
    /// How many unknown names are still told with the nearest that is known.
    pub hints: Cell<u32>,
    /// Whether an aggregate was met since this was last cleared.
    pub met_aggregate: bool,
    /// Calls of functions of plugins so far.
    pub numbers: u64,
}

impl<'a> Names<'a> {
    pub fn new(
        sources: Vec<Asked<'a>>,
        funcs: &'a Catalogue,
        fields: &'a [Field],
        windowed: bool,
        ignore_case: bool,
    ) -> Self {
        let aliases: Vec<Alias<'a>> = fields
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
                aggregated: false,
                height: 0,
                below: 0,
            })
            .collect();
        let index = Index::new(aliases.iter().map(|alias: &Alias<'_>| (&alias.name, alias.field)));
        Names {
            precedence: (0..sources.len()).collect(),
            lookups: Lookups::new(&sources),
            sources,
            width: 0,
            source_slot: None,
            funcs,
            aliases,
            index,
            calls: Vec::new(),
            of_where: OfWhere::default(),
            alike: HashMap::new(),
            special: Specials::default(),
            bounds: Bounds::default(),
            windowed,
            ignore_case,
            aliases_in_order: false,
            stage: Stage::Select,
            clause: "SELECT",
            binding: Vec::new(),
            in_aggregate: false,
            hints: Cell::new(16),
            met_aggregate: false,
            numbers: 0,
        }
    }

    fn alias(&self, name: &str) -> Option<usize> {
        let find = |known: &[usize]| known.iter().copied().find(|n| self.binding.last() != Some(n));
        find(self.index.named(name)).or_else(|| {
            // A column of exactly that name is nearer than an alias that differs by case.
            if self.declares(name) {
                return None;
            }
            // Within its own expression the name means the column, whatever its case.
            find(self.index.in_any_case(name))
        })
    }

    /// Binds an alias, if that has not been done, and returns what a reader of it reads.
    fn read_alias(&mut self, n: usize, span: Span) -> Result<Bound, Vec<Diagnostic>> {
        self.bind_alias(n, span)?;
        if let Some(reader) = self.binding.last() {
            self.aliases[*reader].reads.push(n);
            let Alias { aggregated, earliest, height, below, .. } = self.aliases[n];
            let reader = &mut self.aliases[*reader];
            reader.below = reader.below.max(height + below);
            if reader.height + reader.below > HEIGHT {
                return Err(vec![too_deep(span)]);
            }
            reader.aggregated |= aggregated;
            reader.earliest = reader.earliest.max(earliest);
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
                let found = Diagnostic { help: self.column_behind(name), ..Diagnostic::error("K0219", message) };
                return Err(vec![found.at(span)]);
            }
            if self.in_where() {
                return self.alias_of_where(n);
            }
            let name = &self.aliases[n].name;
            self.refuse_aggregate(name, span).map_err(|mut found| {
                found.iter_mut().for_each(|one| one.help = self.column_behind(name).or(one.help.take()));
                found
            })?;
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
                self.lookups.aliases.insert(slot, n);
                slot
            }
        };
        Ok(self.aliases[n].read_at(slot))
    }

    /// How a column is written that an alias hides, if a source is known to have one.
    fn column_behind(&self, name: &Text) -> Option<String> {
        let has = |source: &&Asked<'_>| source.declares(name) || source.slot(name).is_some();
        let source = self.sources.iter().find(has)?.name();
        let column = print_expr(&Expr { node: ExprNode::Dotted(source.clone(), name.clone()), span: Span::default() });
        Some(format!("`{name}` is the alias here; write `{column}` for the column"))
    }

    pub fn in_where(&self) -> bool {
        self.stage == Stage::Where && self.clause == "WHERE"
    }

    /// An alias with aggregates in it as WHERE reads it: its expression once more, over the rows of the whole window.
    fn alias_of_where(&mut self, n: usize) -> Result<Bound, Vec<Diagnostic>> {
        if let Some(known) = self.of_where.reads.get(&n) {
            return Ok(known.clone());
        }
        // First those that it reads, so that a chain of them needs no deep stack.
        let mut waiting = vec![(n, 0)];
        while let Some((at, next)) = waiting.last_mut() {
            if let Some(read) = self.aliases[*at].reads.get(*next).copied() {
                *next += 1;
                if self.aliases[read].aggregated && !self.of_where.reads.contains_key(&read) {
                    waiting.push((read, 0));
                }
                continue;
            }
            let at = *at;
            waiting.pop();
            if at != n && !self.of_where.reads.contains_key(&at) {
                self.again_in_where(at)?;
            }
        }
        self.again_in_where(n)
    }

    fn again_in_where(&mut self, n: usize) -> Result<Bound, Vec<Diagnostic>> {
        self.binding.push(n);
        let funcs = self.funcs;
        let field: &Field = self.aliases[n].field;
        let bound = bind(&field.expr, self, funcs);
        self.binding.pop();
        let (bound, name) = (bound?, self.aliases[n].name.clone());
        let slot = self.fresh();
        let read = match bound.is_pure() {
            true => Bound::Alias(slot, name.clone(), Arc::new(bound.clone())),
            false => Bound::Slot(slot, name.clone()),
        };
        self.of_where.aliases.push((slot, name, bound));
        self.of_where.reads.insert(n, read.clone());
        Ok(read)
    }

    /// The alias, and all that it reads, is needed at that stage.
    fn need(&mut self, n: usize, stage: Stage) {
        // What reads the bounds of the window is known only behind it; before, its readers look into it.
        let stage = if self.reads_window(n) { stage.max(Stage::Having) } else { stage };
        if self.aliases[n].stage > stage {
            self.aliases[n].stage = stage;
        }
        for at in 0..self.aliases[n].reads.len() {
            let read = self.aliases[n].reads[at];
            if self.aliases[read].stage > stage {
                self.need(read, stage);
            }
        }
    }

    fn reads_window(&self, n: usize) -> bool {
        if self.bounds == Bounds::default() {
            return false;
        }
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
            AliasState::Binding => return Err(vec![self.circle(span)]),
            AliasState::Waiting => {}
        }
        let field: &Field = self.aliases[n].field;
        let height = height(&field.expr);
        self.aliases[n].height = height;
        self.aliases[n].state = AliasState::Binding;
        let above = self.binding.iter().map(|n| self.aliases[*n].height).sum::<u32>();
        // Chains are bound from the bottom up, so only a circle has so many in it.
        let is_circle = self.binding.len() >= CIRCLE;
        if is_circle || above + height > HEIGHT {
            self.aliases[n].state = AliasState::Failed;
            return Err(vec![if is_circle { self.circle(span) } else { too_deep(span) }]);
        }
        self.binding.push(n);
        let outer = (self.stage, self.clause, self.in_aggregate, self.met_aggregate);
        (self.stage, self.clause, self.in_aggregate, self.met_aggregate) = (Stage::Select, "SELECT", false, false);
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

    fn circle(&self, span: Span) -> Diagnostic {
        let name = |n: &usize| format!("`{}`", self.aliases[*n].name);
        let mut names = self.binding.iter().take(8).map(name).collect::<Vec<_>>().join(", ");
        if self.binding.len() > 8 {
            names.push_str(" and others");
        }
        Diagnostic::error("K0205", format!("the aliases {names} read each other in a circle")).at(span)
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
        if !self.in_where() {
            self.refuse_aggregate(func.name, span)?;
        }
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
        let mut unknown = Vec::new();
        let mut part = |names: &mut Self, expr: &Expr| match bind(expr, names, funcs) {
            Ok(bound) => Some(bound),
            Err(more) => {
                found.extend(more);
                None
            }
        };
        for arg in &call.args {
            if !counted(func, arg) {
                args.extend(part(self, arg));
                continue;
            }
            // How many rows there are needs none of their columns, but what is written is right or wrong all the same.
            if let ExprNode::Wildcard(wildcard) = &arg.bare().node {
                let of = wildcard.of.as_ref().filter(|of| self.source(of).is_none());
                unknown.extend(of.and_then(|_| self.all_columns(wildcard, arg.span).err()));
                for field in &wildcard.replace {
                    unknown.extend(field.alias.is_none().then(|| nameless(field)));
                    part(self, &field.expr);
                }
            }
            args.push(Bound::Row(Box::default()));
        }
        let filter = call.filter.as_ref().and_then(|filter| part(self, filter));
        found.extend(unknown);
        self.in_aggregate = false;
        if !found.is_empty() {
            return Err(found);
        }
        self.met_aggregate = true;
        let mut wanted = Aggregated { func, args, distinct: call.distinct, filter, slot: 0, number: 0 };
        let once = func.pure && wanted.args.iter().chain(&wanted.filter).all(Bound::is_pure);
        let (shown, place) = (Text::new(format!("{wanted:?}")), self.in_where());
        let calls = if place { &self.of_where.calls } else { &self.calls };
        let alike = self.alike.entry((place, shown.clone())).or_default();
        if let Some(known) = alike.iter().map(|n| &calls[*n]).find(|known| once && known.is_same(&wanted)) {
            return Ok(Bound::Slot(known.slot, shown));
        }
        alike.push(calls.len());
        wanted.slot = self.fresh();
        if matches!(func.body, crate::func::Body::GuestAggregate(_)) {
            wanted.number = self.number();
        }
        let bound = Bound::Slot(wanted.slot, shown);
        let calls = if place { &mut self.of_where.calls } else { &mut self.calls };
        calls.push(wanted);
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
        let stands = |n: &usize| !self.aliases_in_order || self.aliases[*n].field.span.start < span.start;
        match self.alias(name).filter(stands) {
            Some(n) => self.read_alias(n, span).map_err(|found| first(found, name, span)),
            None => self.column(name, span),
        }
    }

    fn dotted(&mut self, qualifier: &Text, name: &Text, span: Span) -> Result<Bound, Diagnostic> {
        if let Some(source) = self.source(qualifier) {
            return self.column_of(source, name, span);
        }
        // With a schema, a qualifier that is no column either is most likely a stream that is not listed.
        let known = self.is_schemaless() || self.declares(qualifier);
        if !known && self.alias(qualifier).is_none() {
            let message = format!("`{qualifier}` is neither a stream nor a column of this statement");
            let sources = self.sources.iter().map(|source| source.name().as_str());
            let columns = self.sources.iter().flat_map(|source| &source.stream.columns);
            let columns = columns.map(|column| column.name.as_str());
            return Err(Diagnostic::error("K0220", message).at(span).suggest(qualifier, sources.chain(columns)));
        }
        let key = Key { name: name.clone(), any_case: self.ignore_case };
        Ok(Bound::Member(Box::new(self.name(qualifier, span)?), key))
    }

    fn is_source(&self, name: &Text) -> bool {
        self.source(name).is_some()
    }

    fn meta(&mut self, source: Option<&Text>, path: Path) -> Bound {
        self.metadata(source, path)
    }

    fn any_case(&self) -> bool {
        self.ignore_case
    }

    fn wildcard(&mut self, wildcard: &Wildcard, span: Span) -> Result<RowShape, Diagnostic> {
        self.all_columns(wildcard, span)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers - 1
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

/// Levels of an expression and of the aliases that it reads, at most.
const HEIGHT: u32 = 512;
/// Aliases in a circle until that is told, at most.
const CIRCLE: usize = 32;

fn height(expr: &Expr) -> u32 {
    let mut below = 0;
    expr.parts(&mut |part| below = below.max(height(part)));
    below + 1
}

fn too_deep(span: Span) -> Diagnostic {
    let message = format!("aliases that read one another are nested too deeply: at most {HEIGHT} levels");
    Diagnostic::error("K0260", message).at(span).help("compute a part of it in a second rule")
}

/// The finding to show for a name; an alias that failed was told where it is defined.
fn first(found: Vec<Diagnostic>, name: &str, span: Span) -> Diagnostic {
    let told =
        || Diagnostic::error("K0225", format!("the alias `{name}` cannot be used, since its own expression is wrong"));
    found.into_iter().next().unwrap_or_else(|| told().at(span))
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
        _ => {
            // What `*` leaves out needs a slot of its own, so that it is not among the others.
            if let ExprNode::Wildcard(wildcard) = &expr.node {
                names.extend(wildcard.except.iter().map(|name| name.name.clone()));
            }
            expr.parts(&mut |part| mentioned(part, names, qualifiers));
        }
    }
}
