//! On the engine's side: the keeper of a plugin's process. Its thread starts the process, does what it asks for on its
//! line, and when it has died starts the next one after a pause, which grows from death to death and is short again after
//! a life of some length. It ends when the library is gone and nothing of the plugin is in use.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::clock::{Patience, Stopwatch};

use super::super::home::Home;
use super::gate::Gate;
use super::lane::{Lane, await_any};
use super::manifest::{self, Offered};
use super::process::{Death, Process, lock, patiently};
use super::protocol::{Answer, packet};
use super::{Isolation, Standing};

/// The first and the longest pause before the next start.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A process that lived so long did not die of its start.
const STEADY: Duration = Duration::from_secs(30);
/// How often it is looked at besides, in milliseconds; and where the system does not tell of its end.
const LOOK: (libc::c_int, libc::c_int) = (2000, 100);

/// What stands for the process of a library, whether it runs or not.
pub struct Keeper {
    plugin: Arc<str>,
    path: PathBuf,
    /// Open, so that it can be loaded again when it was removed; closed when nobody keeps it any more.
    library: Mutex<Option<File>>,
    settings: Arc<Isolation>,
    gate: Arc<Gate>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    now: Now,
    /// Instances that there are.
    uses: usize,
    /// The library is gone.
    retired: bool,
    deaths: u64,
    last: Option<Arc<str>>,
}

enum Now {
    Starting,
    Up(Arc<Process>),
    /// It has died; the span is that to the next start, from then.
    Down(Stopwatch, Duration),
    /// Nobody keeps it.
    Over,
}

type Begun = Result<Vec<Offered>, String>;

impl Keeper {
    /// Starts the process, and says what the library offers.
    pub fn start(
        plugin: &str,
        path: &Path,
        settings: &Arc<Isolation>,
        home: &'static Home,
    ) -> Result<(Arc<Keeper>, Vec<Offered>), String> {
        let library = File::open(path).map_err(|error| format!("it cannot be read: {error}"))?;
        let keeper = Arc::new(Keeper {
            plugin: plugin.into(),
            path: path.to_owned(),
            library: Mutex::new(Some(library)),
            settings: settings.clone(),
            gate: Arc::new(Gate::new(plugin, settings.log_lines)),
            state: Mutex::new(State { now: Now::Over, uses: 0, retired: false, deaths: 0, last: None }),
            changed: Condvar::new(),
        });
        let (begun, offered) = sync_channel(1);
        keeper.keep(&mut lock(&keeper.state), Some((begun, home)))?;
        let offered = patiently(|| offered.recv()).map_err(|_| "its process cannot be kept".to_owned())??;
        Ok((keeper, offered))
    }

    /// Starts the thread.
    fn keep(
        self: &Arc<Keeper>,
        state: &mut State,
        begun: Option<(SyncSender<Begun>, &'static Home)>,
    ) -> Result<(), String> {
        state.now = Now::Starting;
        let keeper = self.clone();
        let thread = thread::Builder::new().name(format!("keeper {}", self.plugin));
        let spawned = thread.spawn(move || keeper.work(begun));
        spawned.map(drop).map_err(|error| {
            state.now = Now::Over;
            format!("no thread for its process: {error}")
        })
    }

    fn work(self: &Arc<Keeper>, mut begun: Option<(SyncSender<Begun>, &'static Home)>) {
        let mut pause = PAUSES.0;
        loop {
            let life = Stopwatch::start();
            let home = begun.as_ref().map(|(_, home)| *home);
            let started =
                self.library().and_then(|file| Process::start(&self.plugin, &self.settings, &file, &self.gate));
            let died = match started {
                Err(text) => Err(text),
                Ok(process) => match self.loaded(&process, home) {
                    Ok(offered) => {
                        process.attend();
                        if !self.is_up(&process) {
                            process.kill("its process was ended");
                        }
                        if let Some((begun, _)) = begun.take() {
                            // Who has begun it may be gone by now.
                            let _ = begun.send(Ok(offered));
                        }
                        Ok(self.attend(&process))
                    }
                    Err(text) => {
                        process.kill("its process was ended");
                        process.bury();
                        Err(text)
                    }
                },
            };
            let mut state = lock(&self.state);
            if let Some((begun, _)) = begun.take() {
                state.now = Now::Over;
                drop(state);
                // As above.
                let _ = begun.send(Err(died.map_or_else(|text| text, |death| death.text.to_string())));
                return;
            }
            if state.is_idle() {
                self.end(&mut state);
                return;
            }
            let text: Arc<str> = died.map_or_else(Into::into, |death| death.text);
            if life.elapsed() >= STEADY {
                pause = PAUSES.0;
            }
            tracing::error!(plugin = &*self.plugin, "{text}; it is started again in {pause:?}");
            state.deaths += 1;
            state.last = Some(text);
            state.now = Now::Down(Stopwatch::start(), pause);
            self.changed.notify_all();
            self.gate.settle();
            let waited = self.changed.wait_timeout_while(state, pause, |state| !state.is_idle());
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.is_idle() {
                self.end(&mut state);
                return;
            }
            state.now = Now::Starting;
            drop(state);
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// The file, open.
    fn library(&self) -> Result<File, String> {
        let mut library = lock(&self.library);
        let cannot = |error: std::io::Error| format!("its library cannot be read: {error}");
        match &*library {
            Some(file) => file.try_clone().map_err(cannot),
            // It was over, and someone wants an instance all the same.
            None => library.insert(File::open(&self.path).map_err(cannot)?).try_clone().map_err(cannot),
        }
    }

    /// Nobody keeps it, and its process has ended.
    fn end(&self, state: &mut State) {
        state.now = Now::Over;
        *lock(&self.library) = None;
        self.gate.close();
        self.changed.notify_all();
    }

    /// Has the process load the library; what it offers is read where someone wants to know.
    fn loaded(&self, process: &Process, home: Option<&'static Home>) -> Begun {
        let broken = |_| "its process made no sense".to_owned();
        let mut message = process.load(&self.path).map_err(|death| {
            // It may be about to say what it died of.
            death.text.to_string()
        })?;
        let mut answer = Answer::read(&mut message).map_err(broken)?;
        if answer.code != 0 {
            return Err(String::from_utf8_lossy(answer.text).into_owned());
        }
        match home {
            Some(home) => manifest::read(&mut answer.rest, home).map_err(broken),
            None => Ok(Vec::new()),
        }
    }

    /// False when it is not wanted any more.
    fn is_up(&self, process: &Arc<Process>) -> bool {
        let mut state = lock(&self.state);
        state.now = Now::Up(process.clone());
        self.changed.notify_all();
        !state.is_idle()
    }

    /// Does what the process asks for, until it has died.
    fn attend(&self, process: &Arc<Process>) -> Death {
        let watched = Watched::new(process.pid);
        loop {
            let [line, ended] = await_any(&[process.control.fd(), watched.fd()], watched.look());
            if line {
                match process.control.receive() {
                    Some(([packet::LANE, number, ..], Some(end))) => attended(process, number, end),
                    Some(([packet::FELL, lane, ..], None)) => process.is_falling(lane),
                    // It has ended, or its line has: then so does it.
                    _ => {
                        if !watched.has_ended(500) {
                            let closed = "its process was killed: it has closed its connection to the engine";
                            process.kill(if self.is_wanted() { closed } else { "its process was ended" });
                        }
                        return process.bury();
                    }
                }
            } else if ended || watched.has_ended(0) {
                return process.bury();
            } else {
                self.gate.settle();
            }
        }
    }

    fn is_wanted(&self) -> bool {
        !lock(&self.state).is_idle()
    }

    /// The process, waited for so long where it does not run; the error is what is told to users.
    pub fn process(self: &Arc<Keeper>, patience: Duration) -> Result<Arc<Process>, String> {
        let mut state = lock(&self.state);
        if let Now::Up(process) = &state.now
            && process.is_alive()
        {
            return Ok(process.clone());
        }
        if let Now::Over = state.now {
            self.keep(&mut state, None)?;
        }
        let state = patiently(|| {
            let down = |state: &mut State| !matches!(&state.now, Now::Up(process) if process.is_alive());
            Patience::new(patience).wait_while(&self.changed, state, down)
        });
        let last = state.last.as_deref().unwrap_or("its process is being started");
        match &state.now {
            Now::Up(process) if process.is_alive() => Ok(process.clone()),
            Now::Down(since, pause) => {
                let left = pause.saturating_sub(since.elapsed());
                Err(format!("{last}; it is started again in {:.1} s", left.as_secs_f64()))
            }
            _ => Err(last.to_owned()),
        }
    }

    /// The file that the process is started from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An instance was made.
    pub fn begin_use(&self) {
        lock(&self.state).uses += 1;
    }

    pub fn end_use(&self) {
        let mut state = lock(&self.state);
        state.uses -= 1;
        self.end_if_idle(&state);
    }

    /// The library is gone; the process ends with the last instance.
    pub fn retire(&self) {
        let mut state = lock(&self.state);
        state.retired = true;
        self.end_if_idle(&state);
    }

    fn end_if_idle(&self, state: &State) {
        if state.is_idle() {
            if let Now::Up(process) = &state.now {
                process.control.shutdown();
            }
            self.changed.notify_all();
        }
    }

    /// Whether there is no process any more, nor will there be one.
    pub fn is_over(&self) -> bool {
        let state = lock(&self.state);
        state.is_idle() && matches!(state.now, Now::Over)
    }

    pub fn standing(&self) -> Standing {
        let state = lock(&self.state);
        let process = match &state.now {
            Now::Up(process) if process.is_alive() => Some(process.pid),
            _ => None,
        };
        Standing { process, deaths: state.deaths, last: state.last.as_deref().map(str::to_owned) }
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.retired && self.uses == 0
    }
}

/// Serves a lane of a thread of the plugin's own, by a thread.
fn attended(process: &Arc<Process>, number: u64, end: OwnedFd) {
    let process = process.clone();
    let serve = move || {
        let mut lane = Lane::new(number, UnixStream::from(end));
        process.watch_lane(&lane);
        while let Ok(message) = lane.receive(|| true) {
            process.serve(&mut lane, message);
        }
    };
    if let Err(error) = thread::Builder::new().name("plugin thread".into()).spawn(serve) {
        tracing::error!("no thread for a thread of a plugin: {error}");
    }
}

/// Tells when a process has ended, where the system offers that.
struct Watched {
    pid: u32,
    fd: Option<OwnedFd>,
}

impl Watched {
    fn new(pid: u32) -> Watched {
        // SAFETY: it takes numbers, and gives a new descriptor or none.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
        // SAFETY: as said, and it is nobody else's.
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Watched { pid, fd }
    }

    /// Negative where there is none, which is not looked at.
    fn fd(&self) -> RawFd {
        self.fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    fn look(&self) -> libc::c_int {
        if self.fd.is_some() { LOOK.0 } else { LOOK.1 }
    }

    /// Whether it ends within so many milliseconds. It is not reaped.
    fn has_ended(&self, millis: libc::c_int) -> bool {
        if self.fd.is_some() {
            return await_any(&[self.fd()], millis) == [true];
        }
        if millis > 0 {
            thread::sleep(Duration::from_millis(millis as u64));
        }
        // SAFETY: all zero is an empty answer, for which there is room.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            libc::waitid(libc::P_PID, self.pid as libc::id_t, &mut info, flags) == 0 && info.si_pid() != 0
        }
    }
}
