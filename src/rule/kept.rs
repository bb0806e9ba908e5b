//! What is kept of a rule's account from one life of the server to the next.
//!
//! It is written every second while it changes, and at the stop. A server that was killed finds what was counted at
//! the last writing; rows that were on their way or held then are gone with the process, and count as dropped.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::restart::Retries;
use crate::diag::Result;
use crate::meter::Accounts;
use crate::store::{Bucket, Store};

/// The account of a rule, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    #[serde(flatten)]
    pub accounts: Accounts,
    pub restarts: u64,
    pub panics: u64,
    /// The rule ran when it was written.
    running: bool,
}

impl Kept {
    pub fn of(accounts: Accounts, retries: &Retries, running: bool) -> Kept {
        let Retries { restarts, panics, .. } = *retries;
        Kept { accounts, restarts, panics, running }
    }

    /// Reads what was stored. `keeps_state` says that what operators held is stored elsewhere.
    pub fn read(id: &str, text: &str, keeps_state: bool) -> Kept {
        let mut kept: Kept = serde_json::from_str(text).unwrap_or_else(|error| {
            tracing::error!(rule = id, "the stored account of the rule cannot be read, it begins anew: {error}");
            Kept::default()
        });
        kept.accounts.close(if kept.running { "crash" } else { "stop" }, keeps_state);
        kept.running = false;
        kept
    }

    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| crate::diag::Fault::bug(format!("an account has no text: {error}")))
    }
}

/// Stores the accounts of many rules in one go.
pub async fn store(store: Arc<Store>, all: Vec<(String, String)>) {
    if all.is_empty() {
        return;
    }
    let written = tokio::task::spawn_blocking(move || store.put_all(Bucket::LEDGERS, &all)).await;
    if let Ok(Err(fault)) = written {
        tracing::error!("the accounts of the rules cannot be stored: {fault}");
    }
}
