//! On the engine's side: one running process of a plugin, and what the engine holds for it. It lives until it has died
//! by whatever cause; then everybody who waits for it hears why.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use kuiper_plugin::abi;
use kuiper_plugin::has;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::clock::{Patience, Stopwatch};

use super::super::desk::Desk;
use super::Isolation;
use super::gate::Gate;
use super::lane::{Control, LOOKS, Lane, Lost};
use super::protocol::{ANSWER, LOST, ask, entry, packet, upward};
use super::upcall::serve;
use super::wire::{Message, Writer};

/// How long a process whose line has ended may take to end itself.
const LAST_BREATH: Duration = Duration::from_millis(500);
/// A machine that is busy may take long to start a process.
const LOADING: Duration = Duration::from_secs(30);
/// Bytes of a line that are kept.
const LINE: usize = 4096;

/// Why a process has ended, as it is told to users: `plugin x: its process was ended by SIGSEGV`.
#[derive(Clone, Debug)]
pub struct Death {
    pub text: Arc<str>,
    /// The lane of the call that ended it, 0 where it was in none; `None` where nobody knows.
    culprit: Option<u64>,
}

impl Death {
    /// Whether the call on that lane may be to blame.
    pub fn blames(&self, lane: u64) -> bool {
        self.culprit.is_none_or(|culprit| culprit == lane)
    }
}

pub struct Process {
    plugin: Arc<str>,
    pub pid: u32,
    /// Of a call.
    limit: Duration,
    pub control: Control,
    /// Its keeper waits for its end.
    attended: AtomicBool,
    gate: Arc<Gate>,
    life: Mutex<Life>,
    died: Condvar,
    next: AtomicU64,
    lanes: Mutex<Lanes>,
    contexts: Mutex<HashMap<u64, Arc<Held>>>,
    output: Mutex<Output>,
}

struct Life {
    child: Child,
    /// Why the engine has ended it.
    killed: Option<String>,
    /// The lane of the thread that was about to end it.
    fell: Option<u64>,
    death: Option<Death>,
}

#[derive(Default)]
struct Lanes {
    /// Of calls that any lane will do for.
    idle: Vec<Lane>,
    open: Vec<Weak<UnixStream>>,
}

struct Output {
    last: Arc<Mutex<String>>,
    ended: Receiver<()>,
}

/// A context of the engine that the process knows.
pub struct Held(*const abi::Context);

// SAFETY: it is retained, and the functions of a context may be called by any thread.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

impl Held {
    pub fn raw(&self) -> *const abi::Context {
        self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: it was retained.
        unsafe {
            if let Some(release) = has!(self.0, release) {
                release(self.0);
            }
        }
    }
}

impl Process {
    /// Starts it; nothing is loaded yet. To be called on a thread that outlives it, for it ends with that thread.
    pub fn start(
        plugin: &Arc<str>,
        settings: &Isolation,
        library: &std::fs::File,
        gate: &Arc<Gate>,
    ) -> Result<Arc<Process>, String> {
        let cannot = |error: std::io::Error| format!("its process cannot be started: {error}");
        let (control, theirs) = Control::pair().map_err(cannot)?;
        let (reader, writer) = std::io::pipe().map_err(cannot)?;
        let mut command = Command::new(&settings.program);
        command.arg0("kuiper").arg("plugin-host").arg(&**plugin).process_group(0);
        command.env_clear();
        for name in &settings.environment {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // Each arena of the allocator would take 64 MiB of the addresses that are allowed.
        command.env("MALLOC_ARENA_MAX", "2");
        command.stdin(Stdio::from(theirs));
        command.stdout(Stdio::from(writer.try_clone().map_err(cannot)?)).stderr(Stdio::from(writer));
        let child = command.spawn().map_err(cannot)?;
        drop(command);
        let limits = [packet::LIMITS, settings.memory, settings.files, settings.file_size];
        let library = library.try_clone().map_err(cannot)?.into();
        let output = Output::read(plugin.clone(), BufReader::new(reader), gate.clone());
        let process = Arc::new(Process {
            plugin: plugin.clone(),
            pid: child.id(),
            limit: settings.call,
            control,
            attended: AtomicBool::new(false),
            gate: gate.clone(),
            life: Mutex::new(Life { child, killed: None, fell: None, death: None }),
            died: Condvar::new(),
            next: AtomicU64::new(1),
            lanes: Mutex::default(),
            contexts: Mutex::default(),
            output: Mutex::new(output),
        });
        // One that has ended already is found out about by whoever asks it first.
        let _ = process.control.send(limits, Some(&library));
        Ok(process)
    }

    pub fn is_alive(&self) -> bool {
        lock(&self.life).death.is_none()
    }

    /// From now on its keeper waits for its end.
    pub fn attend(&self) {
        self.attended.store(true, Ordering::Release);
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// A way for calls of one thread at a time.
    pub fn open_lane(&self) -> Result<Lane, Death> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let opened = Lane::pair(number).and_then(|(lane, theirs)| {
            self.watch_lane(&lane);
            self.control.send([packet::LANE, number, 0, 0], Some(&theirs)).map(|()| lane)
        });
        opened.map_err(|error| match self.is_alive() && error.kind() != std::io::ErrorKind::BrokenPipe {
            true => Death {
                text: format!("plugin {}: no way to its process: {error}", self.plugin).into(),
                culprit: Some(0),
            },
            false => self.autopsy(),
        })
    }

    /// Has the lane end with the process, also where something else holds its other end.
    pub fn watch_lane(&self, lane: &Lane) {
        let mut lanes = lock(&self.lanes);
        if lanes.open.len() % 64 == 63 {
            lanes.open.retain(|one| one.strong_count() > 0);
        }
        lanes.open.push(Arc::downgrade(lane.stream()));
    }

    /// A lane that nobody uses, for one call.
    pub fn borrow_lane(&self) -> Result<Lane, Death> {
        let idle = lock(&self.lanes).idle.pop();
        idle.map_or_else(|| self.open_lane(), Ok)
    }

    pub fn return_lane(&self, lane: Lane) {
        lock(&self.lanes).idle.push(lane);
    }

    /// Keeps a context, and says by which number the process knows it.
    ///
    /// # Safety
    /// It is one of the contract.
    pub unsafe fn hold(&self, context: *const abi::Context) -> u64 {
        // SAFETY: see above.
        unsafe {
            if let Some(retain) = has!(context, retain) {
                retain(context);
            }
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.contexts).insert(id, Arc::new(Held(context)));
        id
    }

    pub fn held(&self, id: u64) -> Option<Arc<Held>> {
        lock(&self.contexts).get(&id).cloned()
    }

    /// The process does not know the context any more.
    pub fn let_go(&self, id: u64) {
        // Released after the lock, for that may do anything.
        let gone = lock(&self.contexts).remove(&id);
        drop(gone);
    }

    /// Ends it; `why` is told where it has not ended by itself: `its process was killed: …`.
    pub fn kill(&self, why: impl Into<String>) {
        let mut life = lock(&self.life);
        if life.death.is_none() {
            life.killed.get_or_insert(why.into());
            // One that has ended already is reaped by its keeper.
            let _ = life.child.kill();
        }
    }

    /// A thread of it is about to end it.
    pub fn is_falling(&self, lane: u64) {
        lock(&self.life).fell.get_or_insert(lane);
    }

    /// Waits for its end, and tells everybody. For its keeper alone, which was told that it has ended.
    pub fn bury(&self) -> Death {
        if let Some(death) = &lock(&self.life).death {
            return death.clone();
        }
        let status = lock(&self.life).child.wait();
        // What it wrote last may say more.
        let _ = lock(&self.output).ended.recv_timeout(Duration::from_millis(200));
        let death = {
            let last = std::mem::take(&mut *lock(&lock(&self.output).last));
            let mut life = lock(&self.life);
            let mut text = match (&life.killed, status) {
                (Some(why), _) => format!("plugin {}: {why}", self.plugin),
                (None, Ok(status)) => format!("plugin {}: its process {}", self.plugin, ended(status)),
                (None, Err(error)) => format!("plugin {}: its process has ended: {error}", self.plugin),
            };
            if life.killed.is_none() && !last.is_empty() {
                text = format!("{text}; it wrote last: {last}");
            }
            let death = Death { text: text.into(), culprit: life.fell };
            life.death = Some(death.clone());
            death
        };
        self.died.notify_all();
        for stream in lock(&self.lanes).open.drain(..).filter_map(|stream| stream.upgrade()) {
            // One that was shut down before stays so.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        lock(&self.lanes).idle.clear();
        let contexts = std::mem::take(&mut *lock(&self.contexts));
        for held in contexts.values() {
            // SAFETY: every context of the engine is the head of a desk, and this one is retained.
            unsafe { (*held.raw().cast::<Desk>()).broke(&death.text) };
        }
        death
    }

    /// Why it has ended, when nothing more came from it; it is seen to that it has.
    pub fn autopsy(&self) -> Death {
        if !self.attended.load(Ordering::Acquire) {
            // This is its keeper, which has not come to wait for its end yet.
            let watch = Stopwatch::start();
            while watch.elapsed() < LAST_BREATH && matches!(lock(&self.life).child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(5));
            }
            if let Ok(None) = lock(&self.life).child.try_wait() {
                self.kill("its process was killed: it has closed its connection to the engine");
            }
            return self.bury();
        }
        patiently(|| {
            for patience in [LAST_BREATH, Duration::from_secs(10)] {
                let life = lock(&self.life);
                let waited = self.died.wait_timeout_while(life, patience, |life| life.death.is_none());
                let (life, _) = waited.unwrap_or_else(PoisonError::into_inner);
                if let Some(death) = &life.death {
                    return death.clone();
                }
                drop(life);
                self.kill("its process was killed: it has closed its connection to the engine");
            }
            Death { text: format!("plugin {}: its process does not end", self.plugin).into(), culprit: None }
        })
    }

    /// Asks on a lane, serves what is asked back, and waits for the answer. A call that takes too long ends the process;
    /// time that the engine takes does not count, and a subscription may last until its rule is being stopped.
    ///
    /// # Safety
    /// The context is null, or of the contract.
    pub unsafe fn exchange(
        &self,
        lane: &mut Lane,
        request: &[u8],
        what: u64,
        context: *const abi::Context,
    ) -> Result<Message, Death> {
        let limit = if what == ask::LOAD { self.limit.max(LOADING) } else { self.limit };
        let mut spent = Spent::new(limit, what == ask::SUBSCRIBE);
        if lane.send(request).is_err() {
            return Err(self.autopsy());
        }
        loop {
            let received = match lane.receive(|| false) {
                // Others have work to do meanwhile.
                Err(Lost::GivenUp) => patiently(|| {
                    // SAFETY: see above.
                    lane.receive(|| unsafe { self.goes_on(&mut spent, what, context) })
                }),
                received => received,
            };
            match received {
                Ok(message) if message.what == ANSWER => return Ok(message),
                Ok(message) if message.what <= upward::LAST_TOLD => {
                    spent.count();
                    self.serve(lane, message);
                }
                Ok(message) => {
                    spent.count();
                    self.serve(lane, message);
                    spent.watch = Stopwatch::start();
                }
                Err(_) => return Err(self.autopsy()),
            }
        }
    }

    /// Does what the process asks for; one that makes no sense is ended.
    pub fn serve(&self, lane: &mut Lane, message: Message) {
        if serve(self, lane, message).is_err() {
            self.kill("its process was killed: what it said made no sense; memory of the plugin may be damaged");
        }
    }

    /// Whether the call may go on.
    ///
    /// # Safety
    /// The context is null, or of the contract.
    unsafe fn goes_on(&self, spent: &mut Spent, what: u64, context: *const abi::Context) -> bool {
        if spent.endless {
            // SAFETY: see above.
            let stopped =
                unsafe { !context.is_null() && has!(context, stopped).is_some_and(|stopped| stopped(context) == 1) };
            if stopped {
                *spent = Spent::new(self.limit, false);
            }
            return true;
        }
        spent.count();
        if !spent.patience.left().is_zero() {
            return true;
        }
        let (entry, limit) = (entry(what), spent.limit);
        self.kill(format!("its process was killed: `{entry}` did not return within {limit:?}"));
        false
    }

    /// Asks it to load the library.
    pub fn load(&self, path: &std::path::Path) -> Result<Message, Death> {
        let mut lane = self.open_lane()?;
        let mut writer = Writer::new(ask::LOAD);
        writer.bytes(path.as_os_str().as_encoded_bytes());
        // SAFETY: there is no context.
        unsafe { self.exchange(&mut lane, writer.finish(), ask::LOAD, std::ptr::null()) }
    }
}

/// The time of a call. Both processes may have been stopped meanwhile, which is no fault of the plugin.
struct Spent {
    watch: Stopwatch,
    patience: Patience,
    limit: Duration,
    endless: bool,
}

impl Spent {
    fn new(limit: Duration, endless: bool) -> Spent {
        Spent { watch: Stopwatch::start(), patience: Patience::of_looks(limit, 2 * LOOKS), limit, endless }
    }

    /// To be called at each look at least.
    fn count(&mut self) {
        self.patience.count(self.watch.elapsed());
        self.watch = Stopwatch::start();
    }
}

impl Output {
    /// Has what the process writes to its outputs written to the log.
    fn read(plugin: Arc<str>, mut from: BufReader<std::io::PipeReader>, gate: Arc<Gate>) -> Output {
        let last = Arc::<Mutex<String>>::default();
        let (ending, ended) = sync_channel(1);
        let kept = last.clone();
        let read = move || {
            let mut line = Vec::new();
            while let Ok(true) = read_line(&mut from, &mut line) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if text.is_empty() {
                    continue;
                }
                if gate.passes() {
                    let plugin = &*plugin;
                    tracing::info!(plugin, "{text}");
                }
                *lock(&kept) = text;
            }
            // The keeper may have gone on.
            let _ = ending.try_send(());
        };
        if let Err(error) = thread::Builder::new().name("plugin output".into()).spawn(read) {
            tracing::error!("no thread for what a plugin writes: {error}");
        }
        Output { last, ended }
    }
}

/// Reads a line, or the beginning of one that is too long; false at the end.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let some = from.fill_buf()?;
        if some.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = some.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(some.len(), |end| end + 1);
        let room = LINE.saturating_sub(line.len()).min(length);
        line.extend_from_slice(&some[..room]);
        from.consume(length);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// How a process has ended: `was ended by SIGSEGV`, `exited with code 3`.
fn ended(status: ExitStatus) -> String {
    const NAMES: [(i32, &str); 13] = [
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGXFSZ, "SIGXFSZ: a file became too large"),
        (libc::SIGXCPU, "SIGXCPU"),
        (libc::SIGSYS, "SIGSYS"),
        (libc::SIGTRAP, "SIGTRAP"),
    ];
    match (status.signal(), status.code()) {
        (Some(signal), _) => match NAMES.iter().find(|(number, _)| *number == signal) {
            Some((_, name)) => format!("was ended by {name}"),
            None => format!("was ended by signal {signal}"),
        },
        (None, Some(LOST)) => "has lost its connection to the engine".to_owned(),
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => "has ended".to_owned(),
    }
}

/// Waits in a way that costs nobody else: a worker of the runtime gives its other tasks away first.
pub fn patiently<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_words() {
        assert_eq!(ended(ExitStatus::from_raw(11)), "was ended by SIGSEGV");
        assert_eq!(ended(ExitStatus::from_raw(60)), "was ended by signal 60");
        assert_eq!(ended(ExitStatus::from_raw(3 << 8)), "exited with code 3");
    }

    #[test]
    fn lines_are_read_and_long_ones_cut() {
        let text = format!("one\n\n{}\nlast", "x".repeat(3 * LINE));
        let mut from = BufReader::with_capacity(16, text.as_bytes());
        let mut lengths = Vec::new();
        let mut line = Vec::new();
        while read_line(&mut from, &mut line).unwrap() {
            lengths.push(line.len());
            line.clear();
        }
        assert_eq!(lengths, [4, 1, LINE, 4]);
    }
}
