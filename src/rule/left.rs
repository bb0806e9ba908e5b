//! What rules that are gone have left outside, where it could not be taken back.
//!
//! A broker keeps the session of a client that is away, and stores messages for it. When the rule is dropped while the broker
//! is away too, nobody can tell it that the session is over: that is noted in the store before it is tried, and tried again,
//! over restarts, until the broker could be told. A rule that is started under the same identity takes the session over,
//! and nothing is tried any more. What is given up is an error in the log.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::identities::Appearance;
use super::{Host, Rules};
use crate::catalog::{Definition, Properties};
use crate::clock::{Clock, Time};
use crate::diag::{Fault, Result};
use crate::io::{Identity, SourcePlan, SourceSpec};
use crate::store::{Bucket, Store};

/// How soon, and how seldom at last, it is tried again.
const SOON: Duration = Duration::from_secs(2);
const SELDOM: Duration = Duration::from_secs(300);
/// For how long: a broker that is away for longer does not come back.
const LONG: Duration = Duration::from_secs(30 * 86_400);

/// How to be the client that left something.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Left {
    name: String,
    /// Epoch milliseconds.
    since: i64,
    connector: String,
    stream: String,
    owner: String,
    props: Properties,
}

/// All that is left.
pub struct Leftovers {
    store: Arc<Store>,
    /// By the key of its identity.
    all: Mutex<BTreeMap<String, Left>>,
    /// Held by a try; who wants to be that client now waits for its end.
    turn: Arc<tokio::sync::Mutex<()>>,
    bell: Arc<Notify>,
}

impl Leftovers {
    pub fn open(store: Arc<Store>) -> Result<Leftovers> {
        let read = |(key, text): (String, String)| match serde_json::from_str(&text) {
            Ok(left) => Some((key, left)),
            Err(error) => {
                tracing::error!("what was left at `{key}` cannot be read, and is given up: {error}");
                None
            }
        };
        let all = Mutex::new(store.all(Bucket::LEFT)?.into_iter().filter_map(read).collect());
        Ok(Leftovers { store, all, turn: Arc::default(), bell: Arc::default() })
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Left>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, key: &str, left: Left) -> bool {
        let text = serde_json::to_string(&left).map_err(|error| Fault::bug(error.to_string()));
        if let Err(fault) = text.and_then(|text| self.store.put(Bucket::LEFT, key, &text)) {
            tracing::warn!("that the {} is to be ended cannot be noted: {fault}", left.name);
            return false;
        }
        self.all().insert(key.to_owned(), left);
        self.bell.notify_one();
        true
    }

    /// Whether there was something.
    fn strike(&self, key: &str) -> bool {
        let was_there = self.all().remove(key).is_some();
        if was_there && let Err(fault) = self.store.remove(Bucket::LEFT, key) {
            tracing::warn!("that nothing is left at `{key}` cannot be noted: {fault}");
        }
        was_there
    }

    /// A rule starts under these identities: what one before it left is its own now.
    pub async fn take_over(&self, by: &[Appearance]) {
        for Appearance { identity, .. } in by {
            if self.strike(&identity.key) {
                tracing::info!("the session of the {} is not ended any more, for a rule has it again", identity.name);
                drop(self.turn.lock().await);
            }
        }
    }
}

impl Host {
    /// Has the source of a rule or shared stream that is gone take back what it left outside. What could not be taken back
    /// is noted, where it is known as whom to try it again.
    pub(super) async fn forget(&self, owner: &str, stream: &Definition, source: SourcePlan) -> Option<Fault> {
        let identity = source.identity.clone().filter(|identity| identity.lasts);
        let key = identity.as_ref().map(|identity| identity.key.as_str()).unwrap_or_default();
        if let Some(identity) = &identity
            && self.identities.has(key)
        {
            tracing::warn!(stream = %stream.name, "the session of the {} stays, for another rule has it too", identity.name);
            return None;
        }
        let is_noted = identity.as_ref().is_some_and(|identity| self.note(identity, owner, stream));
        let forgotten = match (source.open)() {
            Ok(mut source) => source.forget().await,
            Err(fault) => Err(fault),
        };
        let Err(fault) = forgotten else {
            self.left.strike(key);
            return None;
        };
        tracing::warn!(stream = %stream.name, "{fault}");
        Some(if is_noted { Fault::unreachable(format!("{fault}. It is tried again in the background")) } else { fault })
    }

    fn note(&self, identity: &Identity, owner: &str, stream: &Definition) -> bool {
        let Ok((props, _)) = self.source_props(stream) else { return false };
        let left = Left {
            name: identity.name.clone(),
            since: self.clock.now().0,
            connector: stream.connector().to_owned(),
            stream: self.name_of(stream),
            owner: owner.to_owned(),
            props,
        };
        self.left.note(&identity.key, left)
    }

    /// The source that left something, as it was.
    fn again(&self, key: &str, left: &Left) -> std::result::Result<SourcePlan, String> {
        let Left { connector, stream, owner, props, .. } = left.clone();
        let spec = SourceSpec { props, wants_meta: false, wants_acks: true, stream, env: self.env(&owner) };
        let source = self.source(&connector, spec).map_err(|found| found.to_string())?;
        match source.identity.as_ref().is_some_and(|identity| identity.key == key) {
            true => Ok(source),
            false => Err("its properties make it another now".to_owned()),
        }
    }
}

/// Tries again as long as the rules are there.
pub(super) async fn mend(rules: Weak<Rules>, clock: Clock) {
    let mut pause = SOON;
    loop {
        let host = || rules.upgrade().filter(|rules| !rules.over.load(Ordering::Acquire)).map(|all| all.host().clone());
        let Some((keys, bell)) = host().map(|host| {
            let keys: Vec<String> = host.left.all().keys().cloned().collect();
            (keys, host.left.bell.clone())
        }) else {
            return;
        };
        let mut remain = 0;
        for key in keys {
            remain += usize::from(!mended(&host, &key).await);
        }
        if remain == 0 {
            // Who notes something tries it first.
            bell.notified().await;
            pause = SOON;
        }
        clock.sleep(pause).await;
        pause = (pause * 2).min(SELDOM);
    }
}

/// Whether nothing is left to try. Lets go of the host, and so of the store, while it waits for someone outside.
async fn mended(host: impl Fn() -> Option<Arc<Host>>, key: &str) -> bool {
    let Some(turn) = host().map(|host| host.left.turn.clone()) else { return true };
    let _turn = turn.lock().await;
    let Some(known) = host() else { return true };
    let Some(left) = known.left.all().get(key).cloned() else { return true };
    let source = known.again(key, &left);
    let late = known.clock.now().since(Time(left.since)) > LONG;
    let mut source = match source.and_then(|source| (source.open)().map_err(|fault| fault.to_string())) {
        Ok(source) => source,
        Err(why) => {
            known.left.strike(key);
            tracing::error!(
                "the session of the {} is given up, and the broker may store messages for it: {why}",
                left.name
            );
            return true;
        }
    };
    drop(known);
    let tried = source.forget().await;
    let Some(host) = host() else { return true };
    match tried {
        Ok(()) => {
            host.left.strike(key);
            tracing::info!("the session of the {}, which a rule had left, is ended", left.name);
            true
        }
        Err(fault) if late => {
            host.left.strike(key);
            tracing::error!("given up after {} days: {fault}", LONG.as_secs() / 86_400);
            true
        }
        Err(fault) => {
            tracing::warn!("{fault}. It is tried again");
            false
        }
    }
}
