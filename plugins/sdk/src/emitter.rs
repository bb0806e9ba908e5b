//! The way out of a source.

use std::time::Duration;

use crate::abi;
use crate::abi::code;
use crate::context::{Context, Taken};
use crate::error::{Error, Result};
use crate::messages::{LentMessages, Message};
use crate::rows::{Batch, Lent};
use crate::value::{Arena, Owned, Record, Time};

/// What else there is to say of what a source emits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Emission {
    /// Where the source stands after it, for `rewind`.
    pub position: Option<Owned>,
    /// By what [`Emitter::acknowledged`] names it when all rules are done with it; 0 where nobody wants to know.
    pub token: u64,
}

impl Emission {
    /// With a position.
    pub fn at(position: impl Into<Owned>) -> Emission {
        Emission { position: Some(position.into()), token: 0 }
    }

    /// With a token.
    pub fn token(token: u64) -> Emission {
        Emission { position: None, token }
    }

    /// The same with a token.
    pub fn with_token(self, token: u64) -> Emission {
        Emission { token, ..self }
    }
}

/// The way out of a source. A clone may be kept, and used by any thread.
#[derive(Clone)]
pub struct Emitter {
    context: Context,
}

impl Emitter {
    pub(crate) fn new(context: &Context) -> Emitter {
        Emitter { context: context.clone() }
    }

    /// Hands on rows; waits while the rules are busy. An error means that the rule is being stopped.
    pub fn rows(&self, batch: &Batch) -> Result<()> {
        let lent = Lent::new(batch);
        let crossing = lent.batch();
        let raw = self.context.raw();
        // SAFETY: the context is retained; the batch lives until the call returns.
        self.sent(unsafe { has!(raw, emit_rows).map(|emit| emit(raw, &crossing)) })
    }

    /// The same, and what else there is to say of them. The engine must be of 1.2 or later.
    pub fn rows_with(&self, batch: &Batch, emission: &Emission) -> Result<()> {
        let lent = Lent::new(batch);
        let crossing = lent.batch();
        let raw = self.context.raw();
        with(emission, |emission| {
            // SAFETY: as in `rows`.
            self.sent(unsafe { has!(raw, emit_rows_with).map(|emit| emit(raw, &crossing, emission)) })
        })
    }

    /// Hands on one row, as [`rows`](Emitter::rows).
    pub fn row(&self, row: Record) -> Result<()> {
        self.rows(&row.into())
    }

    /// Hands on one message, which the stream's format decodes.
    pub fn bytes(&self, message: &[u8]) -> Result<()> {
        self.messages(&[message.into()])
    }

    /// The same with the time at which it happened, and with metadata.
    pub fn bytes_with(&self, message: &[u8], time: Option<Time>, meta: Record) -> Result<()> {
        self.messages(&[Message { payload: message.to_vec(), time, meta }])
    }

    /// Hands on messages.
    pub fn messages(&self, messages: &[Message]) -> Result<()> {
        let lent = LentMessages::new(messages);
        let crossing = lent.messages();
        let raw = self.context.raw();
        // SAFETY: as in `rows`.
        self.sent(unsafe { has!(raw, emit_bytes).map(|emit| emit(raw, &crossing)) })
    }

    /// The same, and what else there is to say of them. The engine must be of 1.2 or later.
    pub fn messages_with(&self, messages: &[Message], emission: &Emission) -> Result<()> {
        let lent = LentMessages::new(messages);
        let crossing = lent.messages();
        let raw = self.context.raw();
        with(emission, |emission| {
            // SAFETY: as in `rows`.
            self.sent(unsafe { has!(raw, emit_bytes_with).map(|emit| emit(raw, &crossing, emission)) })
        })
    }

    /// Reports something that could not be read; the source goes on.
    pub fn error(&self, text: impl AsRef<str>) -> Result<()> {
        let text = abi::Str::new(text.as_ref());
        let raw = self.context.raw();
        // SAFETY: as in `rows`.
        self.sent(unsafe { has!(raw, emit_error).map(|emit| emit(raw, text)) })
    }

    /// Says that there will be no more.
    pub fn end(&self) -> Result<()> {
        let raw = self.context.raw();
        // SAFETY: as in `rows`.
        self.sent(unsafe { has!(raw, emit_end).map(|emit| emit(raw)) })
    }

    /// Tokens of emissions that all rules are done with; waits at most so long for the first. An error means that the rule is
    /// being stopped and there is none left. What is never named is to be given again after the next start.
    pub fn acknowledged(&self, limit: Duration) -> Result<Vec<u64>> {
        let mut taken = Taken::default();
        let output = taken.output();
        let raw = self.context.raw();
        let nanos = limit.as_nanos().min(u128::from(u64::MAX)) as u64;
        // SAFETY: as in `rows`; the output lives until the call returns.
        self.sent(unsafe { has!(raw, acknowledged).map(|ask| ask(raw, nanos, &output)) })?;
        let token = |value| match value {
            Ok(Owned::Int(token)) => Some(token as u64),
            _ => None,
        };
        Ok(taken.values.into_iter().filter_map(token).collect())
    }

    /// Whether the rule is being stopped.
    pub fn stopped(&self) -> bool {
        let raw = self.context.raw();
        // SAFETY: as in `rows`.
        unsafe { has!(raw, stopped).map_or(false, |stopped| stopped(raw) != 0) }
    }

    /// Waits; true as soon as the rule is being stopped.
    pub fn wait(&self, time: Duration) -> bool {
        let raw = self.context.raw();
        // SAFETY: as in `rows`.
        match unsafe { has!(raw, wait) } {
            Some(wait) => {
                let nanos = time.as_nanos().min(u128::from(u64::MAX)) as u64;
                // SAFETY: as in `rows`.
                unsafe { wait(raw, nanos) != 0 }
            }
            None => {
                std::thread::sleep(time);
                self.stopped()
            }
        }
    }

    fn sent(&self, code: Option<u32>) -> Result<()> {
        match code {
            Some(code::OK) => Ok(()),
            Some(code::STOPPED) => Err(Error::stopped()),
            Some(code) => Err(Error::of(code, "the engine refused what the source emits".to_owned())),
            None => Err(Error::never("this engine takes no such emissions")),
        }
    }
}

/// Lends an emission for a call.
fn with<T>(emission: &Emission, call: impl FnOnce(*const abi::Emission) -> T) -> T {
    let mut arena = Arena::default();
    let position = emission.position.as_ref().map(|position| arena.lend(position));
    call(&abi::Emission {
        size: std::mem::size_of::<abi::Emission>() as u32,
        flags: 0,
        position: position.as_ref().map_or(std::ptr::null(), |position| position as *const abi::Value),
        token: emission.token,
    })
}
