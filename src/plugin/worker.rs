//! The thread of one instance. A guest is called by one thread at a time, and what it does may take long; so each
//! instance has a thread of its own, on which its calls wait in line. It is destroyed there when nobody holds the
//! worker any more and the line is empty.

use std::collections::HashSet;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, kind};
use kuiper_plugin::has;
use tokio::sync::oneshot;

use crate::data::Value;
use crate::diag::{Fault, Result};

use super::cross::{Arena, Texts};
use super::deaths::Mark;
use super::desk::Desk;
use super::isolated;
use super::library::Symbol;
use super::place;

/// Calls that may wait in line; each user waits for the answer to its last one.
const LINE: usize = 64;

type Job = Box<dyn FnOnce(&mut Slot) + Send>;

/// The handle of the thread.
pub struct Worker {
    jobs: SyncSender<Job>,
}

impl Worker {
    pub fn start(symbol: Symbol) -> Worker {
        let (jobs, line) = sync_channel::<Job>(LINE);
        let thread = thread::Builder::new().name(format!("plugin {}", symbol.name));
        // A machine that has no thread left closes the line, and each call says so.
        if let Err(error) = thread.spawn(move || work(symbol, &line)) {
            tracing::error!("no thread for the plugin `{}`: {error}", symbol.name);
        }
        Worker { jobs }
    }

    /// Runs a job on the thread. Dropped before the answer, the job is run all the same.
    pub async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Slot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        // Whoever asked may be gone by then.
        self.queue(Box::new(move |slot| drop(answer.send(job(slot)))))?;
        answered.await.unwrap_or_else(|_| Err(Fault::bug("the thread of the plugin has ended")))
    }

    /// Says goodbye for one user, who hears before that it is being stopped.
    pub async fn close(&self, user: u64, desk: &Arc<Desk>) -> Result<()> {
        desk.stop();
        let desk = desk.clone();
        self.call(move |slot| slot.close(user, &desk)).await
    }

    /// The same, where no one is left to hear how it went.
    pub fn leave(&self, user: u64, desk: &Arc<Desk>) {
        desk.stop();
        let desk = desk.clone();
        let _ = self.queue(Box::new(move |slot| drop(slot.close(user, &desk))));
    }

    /// Puts a job in line, without an answer.
    fn queue(&self, job: Job) -> Result<()> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Fault::unreachable("the plugin is busy with earlier calls"),
            TrySendError::Disconnected(_) => Fault::bug("the thread of the plugin has ended"),
        })
    }
}

fn work(symbol: Symbol, line: &Receiver<Job>) {
    let mut slot = Slot::new(symbol);
    while let Ok(job) = line.recv() {
        job(&mut slot);
    }
}

/// An entry that sources, lookups and sinks have alike.
macro_rules! entry {
    ($symbol:expr, $name:ident) => {
        // SAFETY: the kind says what the table is.
        unsafe {
            match $symbol.kind {
                kind::SOURCE => has!($symbol.table.cast::<abi::Source>(), $name),
                kind::LOOKUP => has!($symbol.table.cast::<abi::Lookup>(), $name),
                _ => has!($symbol.table.cast::<abi::Sink>(), $name),
            }
        }
    };
}

/// What the thread keeps: the instance, once it is needed, and what was done with it for which user.
pub struct Slot {
    pub symbol: Symbol,
    instance: Option<Instance>,
    provisioned: HashSet<u64>,
    pub connected: HashSet<u64>,
    /// For whom it is called now.
    mark: Mark,
    /// The last call has failed because the process of the instance has ended.
    pub fell: bool,
}

impl Slot {
    pub fn new(symbol: Symbol) -> Slot {
        Slot {
            symbol,
            instance: None,
            provisioned: HashSet::new(),
            connected: HashSet::new(),
            mark: Mark::default(),
            fell: false,
        }
    }

    /// The instance, provisioned for this user.
    pub fn provisioned(&mut self, user: u64, props: &Value, desk: &Arc<Desk>) -> Result<*mut c_void> {
        self.mark.clone_from(&desk.mark);
        let this = match &self.instance {
            Some(instance) => instance.this,
            None => self.instance.insert(Instance::new(self.symbol, &desk.mark)?).this,
        };
        if !self.provisioned.contains(&user) {
            let mut arena = Arena::default();
            let lent = arena.lend(props);
            // SAFETY: the instance is of this table; the pointers live until the call returns.
            let done = self
                .call(entry!(self.symbol, provision), |call, fault| unsafe { call(this, desk.raw(), &lent, fault) });
            done.map_err(|(failed, mut texts)| texts.setup(failed))?;
            self.provisioned.insert(user);
        }
        Ok(this)
    }

    /// Has it reach the outside, for a user.
    pub fn connect(&mut self, user: u64, props: &Value, desk: &Arc<Desk>) -> Result<()> {
        let this = self.provisioned(user, props, desk)?;
        self.step(entry!(self.symbol, connect), this, desk)?;
        self.connected.insert(user);
        Ok(())
    }

    /// Whether it can reach the outside, for a user that does nothing else.
    pub fn ping(&mut self, props: &Value, desk: &Arc<Desk>) -> Result<()> {
        let this = self.provisioned(0, props, desk)?;
        let ping = entry!(self.symbol, ping);
        let ping = ping.ok_or_else(|| Fault::setup("the plugin has no code that tests a connection"))?;
        self.step(Some(ping), this, desk)
    }

    /// A step in the life of a source or sink, for a user that was provisioned.
    pub fn step(&mut self, step: Option<abi::Step>, this: *mut c_void, desk: &Arc<Desk>) -> Result<()> {
        // SAFETY: as in `provisioned`.
        let done = self.call(step, |call, fault| unsafe { call(this, desk.raw(), fault) });
        done.map(|_| ()).map_err(|(failed, mut texts)| texts.setup(failed))
    }

    /// Takes a source or sink back to where it stood.
    pub fn rewind(
        &mut self,
        entry: Option<abi::Rewind>,
        this: *mut c_void,
        position: &Value,
        desk: &Arc<Desk>,
    ) -> Result<()> {
        let (entry, position) = match place::set_by_user(position) {
            // SAFETY: only a source is given such.
            Some(set) => (unsafe { has!(self.symbol.table.cast::<abi::Source>(), reset) }, set),
            None => (entry, position),
        };
        let mut arena = Arena::default();
        let lent = arena.lend(position);
        // SAFETY: as in `provisioned`.
        let done = self.call(entry, |call, fault| unsafe { call(this, desk.raw(), &lent, fault) });
        done.map(|_| ()).map_err(|(failed, mut texts)| texts.setup(failed))
    }

    /// Calls an entry. One that panicked has left its instance in an unknown state: the next call makes a new one.
    pub fn call<F>(
        &mut self,
        entry: Option<F>,
        call: impl FnOnce(F, *const abi::Fault) -> u32,
    ) -> std::result::Result<Texts, (u32, Texts)> {
        let mut texts = Texts::default();
        self.fell = false;
        let Some(entry) = entry else {
            return Ok(texts);
        };
        let within = self.mark.enter();
        let code = call(entry, &texts.fault());
        drop(within);
        match code {
            code::OK => Ok(texts),
            failed => {
                self.fell = self.instance.as_ref().is_some_and(Instance::is_gone);
                if failed == code::BUG || self.fell {
                    self.forget();
                }
                Err((failed, texts))
            }
        }
    }

    /// Says goodbye for one user.
    fn close(&mut self, user: u64, desk: &Arc<Desk>) -> Result<()> {
        self.connected.remove(&user);
        self.mark.clone_from(&desk.mark);
        match &self.instance {
            Some(instance) if self.provisioned.remove(&user) => {
                self.step(entry!(self.symbol, close), instance.this, desk)
            }
            _ => Ok(()),
        }
    }

    fn forget(&mut self) {
        self.instance = None;
        self.provisioned.clear();
        self.connected.clear();
    }
}

/// An instance of what a symbol stands for; it is destroyed with the value.
pub struct Instance {
    pub this: *mut c_void,
    symbol: Symbol,
    /// For whom it was made.
    mark: Mark,
    destroy: Option<unsafe extern "C" fn(*mut c_void)>,
}

// SAFETY: the contract: an instance may be called by any thread, one at a time, and this handle is not cloned.
unsafe impl Send for Instance {}

impl Instance {
    /// For whom the mark says.
    pub fn new(symbol: Symbol, mark: &Mark) -> Result<Instance> {
        // SAFETY: the kind says what the table is.
        let (create, destroy) = unsafe {
            match symbol.kind {
                kind::SOURCE => {
                    let table = symbol.table.cast::<abi::Source>();
                    (has!(table, create), has!(table, destroy))
                }
                kind::LOOKUP => {
                    let table = symbol.table.cast::<abi::Lookup>();
                    (has!(table, create), has!(table, destroy))
                }
                kind::SINK => {
                    let table = symbol.table.cast::<abi::Sink>();
                    (has!(table, create), has!(table, destroy))
                }
                _ => {
                    let table = symbol.table.cast::<abi::Function>();
                    (has!(table, create), has!(table, destroy))
                }
            }
        };
        let create = create.ok_or_else(|| Fault::setup(format!("the plugin cannot make a `{}`", symbol.name)))?;
        let mut texts = Texts::default();
        let within = mark.enter();
        // SAFETY: the contract: `create` takes the symbol's own data.
        let this = unsafe { create(symbol.data, &texts.fault()) };
        drop(within);
        if this.is_null() {
            return Err(texts.unmade());
        }
        Ok(Instance { this, symbol, mark: mark.clone(), destroy })
    }

    /// Whether it ended with its process.
    fn is_gone(&self) -> bool {
        // SAFETY: the symbol made it, and it is destroyed with the value.
        unsafe { isolated::is_gone(&self.symbol, self.this) }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            let _within = self.mark.enter();
            // SAFETY: `this` came from `create` of the same table, and is not used again.
            unsafe { destroy(self.this) };
        }
    }
}
