use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::change::{stranded, under_way};
use super::farewell;
use super::guests::forgive;
use super::kept::Kept;
use super::life::Rule;
use super::queues;
use super::run::plan_stream;
use super::{Checked, Def, Engine, Host, Planned, Refused, State, Status, Told, Topo};
use crate::clock::within;
use crate::diag::{self, Diagnostic, Fault, Result};
use crate::flow::Hold;
use crate::lint::{Known, lint};
use crate::plan::GraphSource;
use crate::sql;
use crate::store::Bucket;

/// How long an answer may wait for what a rule has left outside to be taken back.
const FORGETTING: Duration = Duration::from_secs(3);

/// How many stored rules are started at one time: while some plan, others wait for the disk.
const AT_ONCE: usize = 8;

/// Lets the sources be read when it goes, unless the program ends.
struct Reading<'r>(&'r Rules);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if !self.0.over.load(Ordering::Acquire) {
            self.0.host.reading.send_replace(true);
        }
    }
}

/// All rules of a server.
pub struct Rules {
    host: Arc<Host>,
    engine: Arc<dyn Engine>,
    rules: RwLock<BTreeMap<String, Arc<Rule>>>,
    /// Rung when there may be something new to do for a rule.
    pub(super) bell: Arc<Notify>,
    /// Someone looks after the rules.
    pub(super) patrolled: AtomicBool,
    /// The program ends.
    pub(super) over: AtomicBool,
}

/// A line of the list of rules.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub id: String,
    /// The id where the rule has no name.
    pub name: String,
    pub status: &'static str,
    pub tags: Option<Vec<String>>,
    pub trace: bool,
    pub version: String,
}

impl Rules {
    /// Loads the stored rules; [`Rules::resume`] starts those that are to run.
    pub fn open(host: Arc<Host>, engine: Arc<dyn Engine>) -> Result<Arc<Rules>> {
        let mut rules = BTreeMap::new();
        let bell = Arc::<Notify>::default();
        let mut ledgers: BTreeMap<String, String> = host.store.all(Bucket::LEDGERS)?.into_iter().collect();
        for (id, text) in host.store.all(Bucket::RULES)? {
            let ledger = ledgers.remove(&id);
            let kept = |keeps_state| ledger.map_or_else(Kept::default, |text| Kept::read(&id, &text, keeps_state));
            let rule = match Def::parse(&text, Some(&id), &host.defaults) {
                Ok((def, _)) => {
                    let state = if def.triggered { State::Starting } else { State::Stopped };
                    let kept = kept(def.options.qos > 0);
                    Rule::new(host.clone(), bell.clone(), def, state, String::new(), kept)
                }
                Err(error) => {
                    tracing::error!(rule = id, "the stored rule cannot be read: {error}");
                    let def = Def { id: id.clone(), text, ..Def::unread() };
                    Rule::new(host.clone(), bell.clone(), def, State::StoppedByError, error, kept(true))
                }
            };
            rules.insert(id, rule);
        }
        // A rule that was dropped while its account was on its way to the disk.
        for id in ledgers.into_keys() {
            host.store.remove(Bucket::LEDGERS, &id)?;
        }
        let rules = RwLock::new(rules);
        Ok(Arc::new(Rules { host, engine, rules, bell, patrolled: false.into(), over: false.into() }))
    }

    /// Starts the stored rules that are to run, a few at a time, and looks after all rules from now on. None reads
    /// before all are there: what a shared stream gives to those that are there already, it has not for the others.
    pub async fn resume(self: &Arc<Self>) {
        self.begin_patrol();
        self.host.reading.send_replace(false);
        let _reading = Reading(self);
        let waiting: Vec<Arc<Rule>> =
            self.read().values().filter(|rule| rule.state() == State::Starting).cloned().collect();
        let mut starting = JoinSet::new();
        for rule in waiting {
            if starting.len() >= AT_ONCE {
                starting.join_next().await;
            }
            let me = self.clone();
            starting.spawn(async move { me.resume_one(&rule).await });
        }
        while starting.join_next().await.is_some() {}
    }

    async fn resume_one(&self, rule: &Arc<Rule>) {
        let mut control = rule.control.lock().await;
        // A user may have been faster.
        if control.gone || control.is_running() || rule.state() != State::Starting || self.holds_back(rule) {
            return;
        }
        match self.plan(&rule.def()) {
            Ok(planned) => self.launch(rule, &mut control, planned).await,
            Err(error) => rule.fail(&error, false, None),
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Rule>> {
        self.read().values().cloned().collect()
    }

    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Rule>>> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Option<Arc<Rule>> {
        self.read().get(id).cloned()
    }

    pub(super) fn registered(&self, id: &str) -> Result<Arc<Rule>, Refused> {
        self.find(id).ok_or_else(|| {
            Refused::NotFound(format!("Rule {id} is not found in registry, please check if it is created"))
        })
    }

    pub(super) fn plan(&self, def: &Def) -> Result<Box<dyn Planned>, String> {
        let planned = catch_unwind(AssertUnwindSafe(|| self.engine.plan(def, &self.host)));
        // Whoever asks for it goes on, and so do all other rules.
        let planned =
            planned.map_err(|_| "planning the rule panicked, which is a mistake of the program".to_owned())?;
        planned.map_err(|findings| diag::render_known(&findings, "sql", &def.sql))
    }

    pub(super) fn read_rule(&self, text: &str, id: Option<&str>) -> Result<(Def, Vec<Diagnostic>), String> {
        let (def, warnings) = Def::parse(text, id, &self.host.defaults)?;
        if def.graph.is_none() {
            self.engine.read(&def.sql)?;
        }
        Ok((def, warnings))
    }

    /// Reads a rule and logs what its author is warned of.
    fn parse(&self, text: &str, id: Option<&str>) -> Result<(Def, Vec<Diagnostic>), String> {
        let (def, warnings) = self.read_rule(text, id)?;
        for warning in &warnings {
            tracing::warn!(rule = def.id, "{warning}");
        }
        Ok((def, warnings))
    }

    /// Adds a rule, and starts it if it is to run. What goes wrong while it runs does not undo this.
    pub async fn create(self: &Arc<Self>, text: String) -> Result<Told, Refused> {
        let me = self.clone();
        to_the_end(async move {
            let parsed = me.parse(&text, None);
            let (def, mut warnings) = parsed.map_err(|why| Refused::Invalid(format!("invalid rule json: {why}")))?;
            let text = format!("Rule {} was created successfully.", def.id);
            warnings.extend(me.add(def).await?);
            Ok(Told { text, warnings })
        })
        .await
    }

    /// What the author of a rule is told of its plan, and of other rules that run.
    fn warnings(&self, def: &Def, planned: &dyn Planned) -> Vec<Diagnostic> {
        let mut warnings = planned.warnings();
        warnings.extend(self.host.identities.clashes(&def.id, &planned.identities()));
        warnings
    }

    /// Gives the warnings of the plan.
    async fn add(&self, def: Def) -> Result<Vec<Diagnostic>, Refused> {
        let exists = || Refused::Invalid(format!("rule {} already exists", def.id));
        if self.find(&def.id).is_some() {
            return Err(exists());
        }
        forgive(&self.host, &def);
        let planned = self.plan(&def).map_err(Refused::Invalid)?;
        let warnings = self.warnings(&def, planned.as_ref());
        let (host, bell) = (self.host.clone(), self.bell.clone());
        let rule = Rule::new(host, bell, def.clone(), State::Stopped, String::new(), Kept::default());
        // Nobody can take the control between the insertion and the start.
        let mut control = rule.control.lock().await;
        {
            let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
            if rules.contains_key(&def.id) {
                return Err(exists());
            }
            rules.insert(def.id.clone(), rule.clone());
        }
        if let Err(fault) = rule.save(&def) {
            control.gone = true;
            self.rules.write().unwrap_or_else(PoisonError::into_inner).remove(&def.id);
            return Err(Refused::Storage(fault.context("store the rule error: ")));
        }
        if def.triggered {
            self.launch(&rule, &mut control, planned).await;
        }
        Ok(warnings)
    }

    /// Puts a rule in the place of the one of that id, or adds it. When it cannot be planned, the old one goes on.
    /// What its operators know is carried over where they do the same. While sinks have not confirmed all results of the
    /// old one it is not changed, but with `force`, which drops the rows that these would come of.
    pub async fn update(self: &Arc<Self>, id: String, text: String, force: bool) -> Result<Told, Refused> {
        let me = self.clone();
        to_the_end(async move {
            let parsed = me.parse(&text, Some(&id));
            let (def, mut warnings) = parsed.map_err(|why| Refused::Invalid(format!("Invalid rule json: {why}")))?;
            let text = format!("Rule {id} was updated successfully.");
            let Some(rule) = me.find(&id) else {
                warnings.extend(me.add(def).await?);
                return Ok(Told { text, warnings });
            };
            let mut control = rule.control.lock().await;
            let old = rule.def();
            if !(old.version.is_empty() && def.version.is_empty()) && def.version <= old.version {
                return Err(Refused::Invalid(format!(
                    "rule {id} already exists with version ({}), new version ({}) is lower",
                    old.version, def.version
                )));
            }
            forgive(&me.host, &def);
            let mut planned = me.plan(&def).map_err(Refused::Invalid)?;
            warnings.extend(me.warnings(&def, planned.as_ref()));
            if old.options.qos > 0 {
                warnings.extend(me.change(&old, &def, planned.as_ref()).warnings());
            }
            let ran = control.is_running();
            let held = control.hold().await;
            match control.drain().await {
                0 => {}
                rows if !force => return Err(under_way(&id, rows)),
                rows => tracing::warn!(rule = id, "changed by force while its sinks have not confirmed {rows} rows"),
            }
            rule.halt(&mut control, State::Stopped, "stopped by update").await;
            if force {
                planned.drop_stranded();
            }
            let saved = match planned.stranded().await {
                Ok(Some(rows)) if !force => Err(stranded(&id, rows)),
                Ok(_) => {
                    rule.save(&def).map_err(|fault| fault.context("store the rule error: ")).map_err(Refused::Storage)
                }
                Err(fault) => Err(Refused::Storage(fault)),
            };
            if let Err(refused) = saved {
                if ran {
                    let before = me.plan(&old).map_err(Refused::Invalid)?;
                    me.launch(&rule, &mut control, before).await;
                }
                return Err(refused);
            }
            rule.taken_in_hand();
            let triggered = def.triggered;
            let (now_read, keeps) = (planned.sources(), planned.queues());
            rule.set_def(def);
            warnings.extend(me.left(&id, keeps).await);
            let (held, left): (Vec<Hold>, _) = held.into_iter().partition(|hold| now_read.contains(&hold.stream));
            release(left).await;
            if !reads(&old).iter().all(|name| now_read.contains(name)) {
                let left = me.forget(&old).await;
                warnings.extend(left.into_iter().map(|text| Diagnostic::warning("K0917", text)));
            }
            if triggered {
                me.launch(&rule, &mut control, planned).await;
            } else if rule.state() == State::ScheduledStop {
                rule.set_state(State::Stopped, "stopped by update");
            }
            release(held).await;
            Ok(Told { text, warnings })
        })
        .await
    }

    /// Stops a rule and takes it out.
    pub async fn remove(self: &Arc<Self>, id: String) -> Result<String, Refused> {
        let me = self.clone();
        to_the_end(async move {
            let missing = || Refused::Invalid(format!("rule {id} not found"));
            let rule = me.find(&id).ok_or_else(missing)?;
            let mut control = rule.control.lock().await;
            if control.gone {
                return Err(missing());
            }
            let before = rule.status().run;
            rule.halt(&mut control, State::Stopped, "canceled manually").await;
            let after = rule.status().run;
            me.host.store.remove(Bucket::RULES, &id).map_err(Refused::Storage)?;
            me.host.store.remove(Bucket::LEDGERS, &id).map_err(Refused::Storage)?;
            control.gone = true;
            me.rules.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
            let (store, name) = (me.host.store.clone(), id.clone());
            match tokio::task::spawn_blocking(move || store.forget_state(&name)).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => tracing::warn!(rule = id, "the state of the rule cannot be removed: {fault}"),
                Err(_) => tracing::error!(rule = id, "removing the state of the rule panicked"),
            }
            let left: String = me.forget(&rule.def()).await.iter().map(|text| farewell::sentence(text)).collect();
            me.host.offered.forget(&id);
            let (queues, name) = (me.host.queues.clone(), id.clone());
            let gone = match tokio::task::spawn_blocking(move || queues.remove(&name)).await {
                Ok(Ok(removed)) => queues::gone(&removed),
                Ok(Err(fault)) => format!(" Its queues cannot be removed: {fault}."),
                Err(_) => " Its queues cannot be removed.".to_owned(),
            };
            let held = farewell::undelivered(&before, &after);
            let letters = farewell::dead_letters(&me.host, &rule.def(), &after);
            Ok(format!("Rule {id} is dropped.{held}{gone}{letters}{left}"))
        })
        .await
    }

    /// What lies in queues that the sinks of a rule do not send any more.
    async fn left(&self, id: &str, keeps: Vec<String>) -> Vec<Diagnostic> {
        let (queues, name) = (self.host.queues.clone(), id.to_owned());
        let left = tokio::task::spawn_blocking(move || queues::left(&queues, &name, &keeps)).await;
        let texts = match left {
            Ok(Ok(texts)) => texts,
            Ok(Err(fault)) => vec![format!("the queues of the rule cannot be read: {fault}")],
            Err(_) => Vec::new(),
        };
        let help = format!("switch `enableCache` on again, or see `kuiper queue list {id}`");
        texts.into_iter().map(|text| Diagnostic::warning("K0637", text).help(help.as_str())).collect()
    }

    /// Takes back what the source of a rule that is gone has left outside, unless it is shared and another rule needs it.
    /// Gives what could not be taken back.
    async fn forget(&self, def: &Def) -> Vec<String> {
        let Ok(planned) = self.plan(def) else { return Vec::new() };
        let shared = |name: &str| self.host.catalog.find(name).is_some_and(|found| found.options.shared);
        if planned.sources().iter().any(|name| shared(name) && !self.readers(name).is_empty()) {
            return Vec::new();
        }
        match within(FORGETTING, planned.forget()).await {
            Some(left) => left.iter().map(Fault::to_string).collect(),
            None => {
                let text = "what the rule left outside could not be taken back in time";
                tracing::warn!(rule = def.id, "{text}");
                vec![text.to_owned()]
            }
        }
    }

    /// Called before a stream is dropped: the rules that read it will not find it again.
    pub async fn let_go(&self, name: &str) {
        for rule in self.readers(name) {
            let control = rule.control.lock().await;
            if control.is_running() || control.gone {
                continue;
            }
            if let Ok(planned) = self.plan(&rule.def())
                && within(FORGETTING, planned.forget()).await.is_none()
            {
                tracing::warn!(rule = rule.id, "what the rule left outside could not be taken back in time");
                break;
            }
        }
    }

    /// The rules, running or not, whose statements name that stream or table.
    fn readers(&self, name: &str) -> Vec<Arc<Rule>> {
        self.read().values().filter(|rule| reads(&rule.def()).iter().any(|one| one == name)).cloned().collect()
    }

    /// Starts a rule; one that runs is planned anew and started again.
    pub async fn start(self: &Arc<Self>, id: String) -> Result<Told, Refused> {
        let me = self.clone();
        to_the_end(async move {
            let warnings = me.begin(&id).await?;
            Ok(Told { text: format!("Rule {id} was started"), warnings })
        })
        .await
    }

    /// Stops a rule and starts it again from its stored definition.
    pub async fn restart(self: &Arc<Self>, id: String) -> Result<Told, Refused> {
        let me = self.clone();
        to_the_end(async move {
            let warnings = me.begin(&id).await?;
            Ok(Told { text: format!("Rule {id} was restarted"), warnings })
        })
        .await
    }

    /// Gives whom the rule takes connections from.
    async fn begin(&self, id: &str) -> Result<Vec<Diagnostic>, Refused> {
        let rule = self.registered(id)?;
        let mut control = rule.control.lock().await;
        if control.gone {
            return self.registered(id).map(|_| Vec::new());
        }
        rule.trigger(true).map_err(Refused::Storage)?;
        rule.taken_in_hand();
        forgive(&self.host, &rule.def());
        match self.plan_anew(&rule) {
            Ok(planned) => {
                let clashes = self.host.identities.clashes(id, &planned.identities());
                let held = control.hold().await;
                control.drain().await;
                rule.halt(&mut control, State::Stopped, "stopped by update").await;
                self.launch(&rule, &mut control, planned).await;
                release(held).await;
                Ok(clashes)
            }
            Err(error) => {
                if !control.is_running() {
                    rule.fail(&error, false, None);
                }
                Err(Refused::Invalid(error))
            }
        }
    }

    /// Plans a rule by its text as it stands: what could not be read before may be fine by now.
    pub(super) fn plan_anew(&self, rule: &Rule) -> Result<Box<dyn Planned>, String> {
        let (def, _) = self.parse(&rule.def().text, Some(&rule.id))?;
        let planned = self.plan(&def)?;
        rule.set_def(def);
        Ok(planned)
    }

    /// Stops a rule; it stays stopped after a restart of the server.
    pub async fn stop(self: &Arc<Self>, id: String) -> Result<String, Refused> {
        let me = self.clone();
        to_the_end(async move {
            let rule = me.registered(&id)?;
            let mut control = rule.control.lock().await;
            if control.gone {
                return me.registered(&id).map(|_| String::new());
            }
            rule.trigger(false).map_err(Refused::Storage)?;
            rule.taken_in_hand();
            rule.halt(&mut control, State::Stopped, "canceled manually").await;
            rule.keep();
            if matches!(rule.state(), State::Starting | State::ScheduledStop) {
                // It was waiting to be resumed, or for its time.
                rule.set_state(State::Stopped, "canceled manually");
            }
            Ok(format!("Rule {id} was stopped."))
        })
        .await
    }

    /// Stops all rules at the end of the program; those that run now run again after the next start.
    pub async fn shutdown(&self, limit: Duration) {
        self.over.store(true, Ordering::Release);
        self.bell.notify_one();
        // What is not done goes back to the sources, for all rules go.
        self.host.reading.send_replace(false);
        let rules = self.all();
        let all = join_all(rules.iter().map(|rule| async move {
            let mut control = rule.control.lock().await;
            control.gone = true;
            rule.halt(&mut control, State::Stopped, "canceled manually").await;
        }));
        if self.host.clock.within(limit, all).await.is_none() {
            tracing::error!("not all rules stopped within {limit:?}");
        }
        self.keep().await;
    }

    /// Checks a rule without keeping it; `known` has rows that its streams are known to have. The error tells what is
    /// suspicious beside what refuses the rule.
    pub fn validate(&self, text: &str, known: Known) -> Result<Checked, String> {
        let parsed = self.read_rule(text, None);
        let (def, mut warnings) = parsed.map_err(|why| format!("invalid rule json: {why}"))?;
        let suspicious = self.lint(&def, known);
        let planned = self.plan(&def).map_err(|why| match suspicious.as_slice() {
            [] => why,
            suspicious => format!("{why}\n{}", diag::render_all(suspicious, "sql", &def.sql)),
        })?;
        warnings.extend(self.warnings(&def, planned.as_ref()));
        warnings.extend(suspicious);
        Ok(Checked { sources: planned.sources(), warnings, sql: def.sql })
    }

    /// What is suspicious in the statement of a rule.
    fn lint(&self, def: &Def, mut known: Known) -> Vec<Diagnostic> {
        let Ok(select) = sql::parse_select(&def.sql) else { return Vec::new() };
        let written = std::iter::once(&select.from).chain(select.joins.iter().map(|join| &join.source));
        let definitions = written.filter_map(|source| self.host.catalog.find(&source.name.name));
        definitions.for_each(|definition| known.add_stream(plan_stream(&definition)));
        lint(&select, &known)
    }

    /// All rules, sorted by id.
    pub fn list(&self) -> Vec<Summary> {
        let line = |rule: &Arc<Rule>| {
            let def = rule.def();
            Summary {
                id: def.id.clone(),
                name: if def.name.is_empty() { def.id.clone() } else { def.name.clone() },
                status: rule.state().name(),
                tags: def.tags.clone(),
                trace: false,
                version: def.version.clone(),
            }
        };
        self.read().values().map(line).collect()
    }

    /// The stored text of a rule.
    pub fn text(&self, id: &str) -> Result<String, Refused> {
        let rule = self.find(id).map(|rule| rule.def()).filter(|def| !def.temp);
        rule.map(|def| def.text.clone()).ok_or_else(|| Refused::NotFound(format!("Rule {id} is not found.")))
    }

    pub fn status(&self, id: &str) -> Result<Status, Refused> {
        let rule = self.find(id).ok_or_else(|| Refused::NotFound(format!("Rule {id} is not found")))?;
        Ok(rule.status())
    }

    /// The status of all rules, by id.
    pub fn statuses(&self) -> Vec<(String, Status)> {
        self.read().iter().map(|(id, rule)| (id.clone(), rule.status())).collect()
    }

    /// The nodes of the last run.
    pub fn topo(&self, id: &str) -> Result<Topo, Refused> {
        self.registered(id)?.topo().ok_or_else(|| {
            Refused::NeverRan(format!("Fail to get rule {id}'s topo, make sure the rule has been started before"))
        })
    }

    /// The plan that the rule would run by if it were started now.
    pub fn explain(&self, id: &str) -> Result<String, Refused> {
        let rule = self.find(id).ok_or_else(|| Refused::NotFound(format!("Rule {id} is not found.")))?;
        Ok(self.plan(&rule.def()).map_err(Refused::Invalid)?.explain())
    }

    /// Whether a rule that runs reads that stream or table.
    pub fn is_read(&self, name: &str) -> bool {
        self.read().values().any(|rule| rule.reads(name))
    }
}

async fn release(held: Vec<Hold>) {
    join_all(held.into_iter().map(Hold::release)).await;
}

/// The streams and tables that a rule names.
pub(super) fn reads(def: &Def) -> Vec<String> {
    if let Some(graph) = &def.graph {
        let named = |source: GraphSource| match source {
            GraphSource::Existing { stream, .. } => Some(stream),
            GraphSource::Own { .. } => None,
        };
        return graph.sources().unwrap_or_default().into_iter().filter_map(named).collect();
    }
    let Ok(select) = sql::parse_select(&def.sql) else { return Vec::new() };
    let joined = select.joins.iter().map(|join| &join.source);
    [&select.from].into_iter().chain(joined).map(|source| source.name.name.to_string()).collect()
}

/// Runs a transition to its end, even when who asked for it has gone away.
async fn to_the_end<T: Send + 'static>(
    transition: impl Future<Output = Result<T, Refused>> + Send + 'static,
) -> Result<T, Refused> {
    let ended = tokio::spawn(transition).await;
    ended.unwrap_or_else(|_| Err(Refused::Storage(Fault::bug("the request could not be carried out"))))
}
