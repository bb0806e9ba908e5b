//! The process of a plugin: it limits itself, loads the library, and does what it is asked on each lane by a thread of
//! that lane. It ends with the engine.

use std::ffi::{OsStr, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use kuiper_plugin::abi;

use super::super::library::{Library, Symbol};
use super::context::{CONTROL, end, says, speak_on};
use super::lane::{Control, Lane};
use super::limits;
use super::manifest;
use super::protocol::{Collected, answer, ask, packet};
use super::served::{Call, served};
use super::wire::{Broken, Message, Writer};

/// The file to load, open, for it may have been removed since the engine began with it.
static FILE: OnceLock<OwnedFd> = OnceLock::new();
/// What is loaded, once it is.
static LIBRARY: OnceLock<Library> = OnceLock::new();

/// Is the process of a plugin, until the engine closes the line that is this process's standard input. The error says
/// that there is none.
pub fn main() -> Result<(), String> {
    let wrong = || "this command is started by `kuiper serve`, for plugins with `isolation: process`".to_owned();
    // SAFETY: standard input is this process's own, and nobody has used it yet.
    let control = unsafe {
        let moved = libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if moved < 0 || null < 0 || libc::dup2(null, 0) < 0 {
            return Err(wrong());
        }
        libc::close(null);
        Control::from(OwnedFd::from_raw_fd(moved))
    };
    let Some(([packet::LIMITS, memory, files, length], Some(file))) = control.receive() else { return Err(wrong()) };
    let _ = FILE.get_or_init(|| file);
    limits::apply(memory, files, length)?;
    limits::hear_the_end();
    let control = CONTROL.get_or_init(|| control);
    while let Some((words, Some(lane))) = control.receive() {
        if words[0] != packet::LANE {
            break;
        }
        let thread = thread::Builder::new().name(format!("lane {}", words[1]));
        if let Err(error) = thread.spawn(move || work(words[1], lane)) {
            // The lane was dropped, which whoever waits on it hears.
            says(&format!("no thread for another call: {error}"));
        }
    }
    end()
}

fn work(number: u64, lane: OwnedFd) {
    let lane = Box::into_raw(Box::new(Lane::new(number, UnixStream::from(lane))));
    speak_on(lane, number);
    loop {
        // SAFETY: the lane is this thread's own; what a call says on it, it says on this thread, between these two.
        let message = unsafe { (*lane).receive(|| true) };
        let Ok(mut message) = message else {
            // SAFETY: as above.
            if unsafe { !(*lane).is_open() } {
                end();
            }
            break;
        };
        let Ok(mut answer) = done(&mut message) else { end() };
        // SAFETY: as above.
        if unsafe { (*lane).send(answer.finish()) }.is_err() {
            // The engine waits for its answer. Nothing is closed here, for the plugin may have closed it already.
            end();
        }
    }
    speak_on(std::ptr::null_mut(), 0);
    // SAFETY: nobody else knows it.
    drop(unsafe { Box::from_raw(lane) });
}

/// Does what a message asks for, and makes the answer.
fn done(message: &mut Message) -> Result<Writer, Broken> {
    let what = message.what;
    let mut from = message.read();
    if what == ask::LOAD {
        let path = PathBuf::from(OsStr::from_bytes(from.bytes()?));
        return Ok(match FILE.get() {
            Some(file) if !path.exists() => loaded(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd()))),
            _ => loaded(&path),
        });
    }
    let library = LIBRARY.get().ok_or(Broken)?;
    let (symbol, this, context) = (from.word()?, from.word()?, from.word()?);
    let symbol: Symbol = library.symbols.get(symbol as usize).copied().ok_or(Broken)?;
    let call = Call { symbol, this: this as usize as *mut c_void, context: context as usize as *const abi::Context };
    // SAFETY: the engine gives back what it was given, and names nothing that was destroyed.
    unsafe { served(what, &call, &mut from) }
}

fn loaded(path: &Path) -> Writer {
    let mut texts = Collected::default();
    match Library::load(path) {
        Ok(library) => {
            let library = LIBRARY.get_or_init(|| library);
            let mut writer = answer(abi::code::OK, 0, &texts);
            manifest::write(&library.symbols, &mut writer);
            writer
        }
        Err(wrong) => {
            texts.say(&wrong);
            answer(abi::code::NEVER, 0, &texts)
        }
    }
}
