//! Deaths: what a signal ended the server in, so that a plugin which does it at every start does not do it for ever.
//!
//! Nouns: a [`Mark`] says for whom which library is called, and each thread notes the one that it is at while it is in a
//! guest: two writes of a word a call, which no other thread reads. When a signal is about to end the process, a handler
//! adds one line to the file `plugins/deaths`: the signal, and the mark of the thread that it came to. Then it steps aside,
//! and the signal does what it does. The next start reads the lines: these are the [`Deaths`].
//!
//! A death is put down only to the thread that died. An end that no handler sees (`kill -9`, a lack of memory, of power)
//! is nobody's, and so is one on a thread that a guest has started itself: then the plugins of this process are
//! named, and none is blamed. Three deaths for the same user of the same file hold that user back ([`Died::holds`]), until
//! someone starts it by hand, it has lasted, or another version stands there.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::fd::IntoRawFd as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering, compiler_fence};
use std::sync::{Arc, Mutex, Once};

use serde::{Deserialize, Serialize};

use super::install::write;
use super::name::{FileName, Kind, canonical};
use super::uses::lock;

/// So many deaths in a row hold back whoever died.
pub const LIMIT: usize = 3;
/// Of the file; a server that dies writes a line.
const LONGEST: u64 = 1 << 20;
const FORMAT: u32 = 1;

/// Signals that end a process for what it has done itself, and how a line that tells of one begins.
const SIGNALS: [(i32, &str); 6] = [
    (libc::SIGSEGV, r#"{"format":1,"signal":"SIGSEGV","#),
    (libc::SIGABRT, r#"{"format":1,"signal":"SIGABRT","#),
    (libc::SIGBUS, r#"{"format":1,"signal":"SIGBUS","#),
    (libc::SIGILL, r#"{"format":1,"signal":"SIGILL","#),
    (libc::SIGFPE, r#"{"format":1,"signal":"SIGFPE","#),
    (libc::SIGTRAP, r#"{"format":1,"signal":"SIGTRAP","#),
];
/// The rest of the line where the thread was in no guest.
const OUTSIDE: &str = "\"library\":\"\",\"owner\":\"\"}\n";

/// A library as the lines name it: its file, which tells plugin, version and content, in the folder of its kind.
pub fn library(path: &Path) -> String {
    let name = |path: Option<&Path>| path.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    format!("{}/{}", name(path.parent()), name(Some(path)))
}

/// For whom which library is called; nothing for one in a process of its own.
#[derive(Clone, Default)]
pub struct Mark(Option<Arc<Rest>>);

/// The rest of the line that a thread would die with.
struct Rest(Box<str>);

thread_local! {
    /// Null: the thread is in no guest.
    static NOW: Cell<*const Rest> = const { Cell::new(ptr::null()) };
}

/// As long as it is there, its thread is in a guest.
pub struct Within<'m> {
    before: *const Rest,
    _mark: &'m Mark,
}

impl Mark {
    /// `library` as [`library`] says, `owner` the rule, or the stream or table that rules share; empty where it is not
    /// known.
    pub fn new(library: &str, owner: &str) -> Mark {
        let [library, owner] = [library, owner].map(|text| serde_json::Value::from(text).to_string());
        Mark(Some(Arc::new(Rest(format!("\"library\":{library},\"owner\":{owner}}}\n").into()))))
    }

    /// The thread is in the guest from now on.
    pub fn enter(&self) -> Within<'_> {
        let before = NOW.replace(self.0.as_ref().map_or(ptr::null(), Arc::as_ptr));
        // A handler on this thread sees it before the guest does anything.
        compiler_fence(Ordering::SeqCst);
        Within { before, _mark: self }
    }
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        NOW.set(self.before);
    }
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    format: u32,
    signal: String,
    library: String,
    owner: String,
}

/// How often the server died while a plugin was called for the same user.
#[derive(Clone, Debug, PartialEq)]
pub struct Died {
    library: String,
    /// None where the name of its file is none of ours.
    pub kind: Option<Kind>,
    pub plugin: String,
    /// Empty where the file names none.
    pub version: String,
    /// Empty where it was called for nobody that is known.
    pub owner: String,
    pub times: usize,
    /// Of the last one.
    pub signal: String,
}

impl Died {
    fn of(line: &Line, times: usize) -> Died {
        let (folder, file) = line.library.split_once('/').unwrap_or(("", &line.library));
        let (kind, file) = (Kind::read(folder), FileName::read(file));
        let (plugin, version) =
            file.map_or_else(|| (line.library.clone(), String::new()), |it| (it.plugin, it.version));
        let Line { signal, library, owner, .. } = line.clone();
        Died { library, kind, plugin, version, owner, times, signal }
    }

    /// It was too often.
    pub fn holds(&self) -> bool {
        self.times >= LIMIT
    }

    /// As in sentences: ``the server died 2 times while plugin `x` 1.0.0 was called for `r` (SIGSEGV)``.
    pub fn told(&self) -> String {
        let times = if self.times == 1 { "once".to_owned() } else { format!("{} times", self.times) };
        let version = if self.version.is_empty() { String::new() } else { format!(" {}", self.version) };
        let whom = if self.owner.is_empty() { String::new() } else { format!(" for `{}`", self.owner) };
        format!("the server died {times} while plugin `{}`{version} was called{whom} ({})", self.plugin, self.signal)
    }
}

/// The deaths of a server that are put down to someone.
#[derive(Clone, Debug, Default)]
pub struct Deaths(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// None where deaths are not noted.
    file: Option<PathBuf>,
    lines: Mutex<Vec<Line>>,
}

impl Deaths {
    /// Reads the deaths of earlier servers, and has that of this one noted. Beside them comes what is wrong with the file,
    /// and the signal of a death on a thread that was in no guest.
    pub fn open(file: &Path) -> (Deaths, Vec<String>, Option<String>) {
        let (mut lines, mut told) = read(file);
        let outside = lines.iter().rfind(|line| line.library.is_empty()).map(|line| line.signal.clone());
        // It is nobody's, and told once.
        lines.retain(|line| !line.library.is_empty());
        let text = text(&lines);
        let is_as_it_was = || fs::read(file).is_ok_and(|before| before == text);
        let written = if is_as_it_was() { Ok(()) } else { write(file, &text) };
        if let Err(wrong) = written.and_then(|()| arm(file)) {
            told.push(format!("`{}` cannot be written, so that no death is noted there: {wrong}", file.display()));
        }
        let file = Some(file.to_owned());
        (Deaths(Arc::new(Kept { file, lines: Mutex::new(lines) })), told, outside)
    }

    /// Those that are meant; of several the worst.
    pub fn of(&self, meant: impl Fn(&Died) -> bool) -> Option<Died> {
        self.all().into_iter().filter(meant).max_by_key(|died| died.times)
    }

    /// Those in a library while it was loaded, or called for nobody that is known.
    pub fn of_library(&self, library: &str) -> Option<Died> {
        self.of(|died| died.library == library && died.owner.is_empty())
    }

    /// Nothing is put down to anyone.
    pub fn is_empty(&self) -> bool {
        lock(&self.0.lines).is_empty()
    }

    /// Of each library and owner.
    pub fn all(&self) -> Vec<Died> {
        let mut all: Vec<Died> = Vec::new();
        for line in lock(&self.0.lines).iter() {
            match all.iter_mut().find(|died| died.library == line.library && died.owner == line.owner) {
                Some(died) => *died = Died::of(line, died.times + 1),
                None => all.push(Died::of(line, 1)),
            }
        }
        all
    }

    /// Forgets those that are meant. What cannot be written is told in the log: they count again after a start.
    pub fn forgive(&self, meant: impl Fn(&Died) -> bool) {
        self.retain(|line| !meant(&Died::of(line, 1)));
    }

    /// Forgets those of plugins of which another file stands there now.
    pub fn forget_others(&self, present: impl Fn(&str) -> bool) {
        self.retain(|line| present(&line.library));
    }

    /// Forgets all of a plugin.
    pub fn forget_plugin(&self, kind: Kind, plugin: &str) {
        let plugin = canonical(plugin);
        self.forgive(|died| died.kind == Some(kind) && died.plugin == plugin);
    }

    fn retain(&self, keep: impl Fn(&Line) -> bool) {
        let mut lines = lock(&self.0.lines);
        let before = lines.len();
        lines.retain(keep);
        if lines.len() < before
            && let Some(file) = &self.0.file
            && let Err(wrong) = write(file, &text(&lines)).and_then(|()| arm(file))
        {
            tracing::warn!("`{}` cannot be written, so that what was forgiven counts again: {wrong}", file.display());
        }
    }
}

/// The lines, as a thread that dies writes them.
fn text(lines: &[Line]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        // A line of texts and a number has a text.
        text.extend(serde_json::to_vec(line).unwrap_or_default());
        text.push(b'\n');
    }
    text
}

/// Tells of a death on a thread that was in none of these plugins.
pub fn outside(signal: &str, plugins: BTreeSet<&str>) -> String {
    let began = format!("the server died of {signal} while its thread was in no plugin");
    if plugins.is_empty() {
        return began;
    }
    let names: Vec<&str> = plugins.into_iter().collect();
    format!(
        "{began}; a thread that a plugin has started may have done it: with `isolation: process` it ends its own process only; in this process there are `{}`",
        names.join("`, `")
    )
}

/// The lines of a file, and what is to be told of those that cannot be read.
fn read(path: &Path) -> (Vec<Line>, Vec<String>) {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    let told = |text: String| vec![format!("`{}`: {text}", path.display())];
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => return (Vec::new(), Vec::new()),
        Err(error) => {
            return (Vec::new(), told(format!("it cannot be read, and the deaths in it are forgotten: {error}")));
        }
        Ok(_) => {}
    }
    let (mut lines, mut strange): (Vec<Line>, usize) = (Vec::new(), 0);
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<Line>(line) {
            Ok(line) if line.format == FORMAT => lines.push(line),
            _ => strange += 1,
        }
    }
    match strange {
        0 => (lines, Vec::new()),
        strange => (lines, told(format!("{strange} of its lines are of another version or torn, and are left out"))),
    }
}

/// The file that a line would go to; -1: none.
static FILE: AtomicI32 = AtomicI32::new(-1);
/// The process that the handlers are for: a fork of it is another one.
static PROCESS: AtomicI32 = AtomicI32::new(0);
/// What the signals did before.
static mut BEFORE: [std::mem::MaybeUninit<libc::sigaction>; SIGNALS.len()] =
    [std::mem::MaybeUninit::uninit(); SIGNALS.len()];

/// Has the death of this process noted in that file.
fn arm(path: &Path) -> std::io::Result<()> {
    static ARMED: Once = Once::new();
    let file = fs::File::options().append(true).create(true).open(path)?.into_raw_fd();
    match FILE.load(Ordering::Acquire) {
        -1 => FILE.store(file, Ordering::Release),
        // In one step, for a thread may be dying.
        // SAFETY: both are ours, and the new one has no other owner.
        there => unsafe {
            libc::dup3(file, there, libc::O_CLOEXEC);
            libc::close(file);
        },
    }
    ARMED.call_once(|| {
        // SAFETY: the handler does only what a handler may; nobody else touches `BEFORE`, and the handler reads an entry
        // only when it was written, which is before the handler is there.
        unsafe {
            PROCESS.store(libc::getpid(), Ordering::Release);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = die as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            for (at, (signal, _)) in SIGNALS.iter().enumerate() {
                let before = (&raw mut BEFORE).cast::<libc::sigaction>().add(at);
                if libc::sigaction(*signal, ptr::null(), before) == 0 {
                    libc::sigaction(*signal, &action, ptr::null_mut());
                }
            }
        }
    });
    Ok(())
}

/// A signal has come that ends the process: notes it, and lets it.
extern "C" fn die(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let Some(at) = SIGNALS.iter().position(|(one, _)| *one == signal) else { return };
    // SAFETY: the system hands over valid pointers; what is called may be called by a handler; the mark of this thread
    // lives while the thread is in the guest, where it is now.
    unsafe {
        let sent = (*info).si_code <= 0;
        // What another process has sent is its own doing.
        let own = !sent || (*info).si_pid() == libc::getpid();
        if own && PROCESS.load(Ordering::Acquire) == libc::getpid() {
            let rest = NOW.get().as_ref().map_or(OUTSIDE, |rest| &rest.0);
            let part = |text: &str| libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
            libc::writev(FILE.load(Ordering::Acquire), [part(SIGNALS[at].1), part(rest)].as_ptr(), 2);
        }
        libc::sigaction(signal, (&raw const BEFORE).cast::<libc::sigaction>().add(at), ptr::null_mut());
        // A fault happens again where this returns to; what was sent does not.
        if sent {
            libc::raise(signal);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const X: &str = "sinks/X@v1.0.0+0123456789abcdef.so";

    fn line(library: &str, owner: &str) -> String {
        let Mark(rest) = Mark::new(library, owner);
        format!("{}{}", SIGNALS[0].1, rest.unwrap().0)
    }

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deaths");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn deaths(path: &Path) -> Deaths {
        Deaths(Arc::new(Kept { file: Some(path.to_owned()), lines: Mutex::new(read(path).0) }))
    }

    #[test]
    fn every_beginning_of_a_line_is_completed_by_a_mark() {
        for (_, first) in SIGNALS {
            for rest in [OUTSIDE.to_owned(), Mark::new(X, "a \"rule\"\n").0.unwrap().0.to_string()] {
                let line: Line = serde_json::from_str(&format!("{first}{rest}")).unwrap();
                assert!(line.format == FORMAT && line.signal.starts_with("SIG"), "{line:?}");
                // It is written again as it was.
                assert_eq!(text(&[line]), format!("{first}{rest}").into_bytes());
            }
        }
    }

    #[test]
    fn a_thread_is_where_it_says_and_again_where_it_was() {
        let (outer, inner) = (Mark::new(X, "outer"), Mark::new(X, "inner"));
        let at = |mark: &Mark| NOW.get() == Arc::as_ptr(mark.0.as_ref().unwrap());
        let _outer = outer.enter();
        assert!(at(&outer));
        {
            let _inner = inner.enter();
            assert!(at(&inner));
            // One in a process of its own.
            let apart = Mark::default();
            let _apart = apart.enter();
            assert!(NOW.get().is_null());
        }
        assert!(at(&outer));
    }

    #[test]
    fn three_deaths_of_the_same_user_and_file_hold_it() {
        let text = [
            line(X, "r"),
            line(X, "other"),
            line(X, "r"),
            line("functions/X@v1.0.0+0123456789abcdef.so", "r"),
            line(X, ""),
        ];
        let (_folder, path) = file(text.concat().as_bytes());
        let found = deaths(&path).of(|died| died.owner == "r").unwrap();
        assert_eq!((found.times, found.holds()), (2, false));
        assert_eq!(found.told(), "the server died 2 times while plugin `x` 1.0.0 was called for `r` (SIGSEGV)");
        fs::write(&path, [text.concat(), line(X, "r")].concat()).unwrap();
        let deaths = deaths(&path);
        assert!(deaths.of(|died| died.owner == "r").unwrap().holds());
        let other = deaths.of(|died| died.owner == "other").unwrap();
        assert_eq!(other.told(), "the server died once while plugin `x` 1.0.0 was called for `other` (SIGSEGV)");
        let library = deaths.of_library(X).unwrap();
        assert_eq!(library.told(), "the server died once while plugin `x` 1.0.0 was called (SIGSEGV)");
        assert_eq!(deaths.of_library("sinks/Z.so"), None);
        assert_eq!(deaths.all().iter().map(|died| died.times).collect::<Vec<_>>(), [3, 1, 1, 1]);
    }

    #[test]
    fn what_is_forgiven_is_so_after_a_start() {
        let (_folder, path) = file([line(X, "r"), line(X, "other"), line("sinks/Y.so", "r")].concat().as_bytes());
        let (opened, told, outside) = Deaths::open(&path);
        assert_eq!((told, outside), (Vec::new(), None));
        opened.forgive(|died| died.owner == "r" && died.plugin == "x");
        let left =
            || deaths(&path).all().iter().map(|died| (died.plugin.clone(), died.owner.clone())).collect::<Vec<_>>();
        assert_eq!(left(), [("x".into(), "other".into()), ("y".into(), "r".into())]);
        opened.forget_plugin(Kind::Functions, "X");
        assert_eq!(left().len(), 2);
        opened.forget_plugin(Kind::Sinks, "X");
        assert_eq!(left(), [("y".into(), "r".into())]);
        opened.forget_others(|library| library == X);
        assert!(left().is_empty() && opened.is_empty());
    }

    #[test]
    fn what_is_torn_foreign_or_of_another_version_is_left_out_and_told() {
        let whole = [line(X, "r"), line(X, "s")].concat();
        for cut in 0..whole.len() {
            let (_folder, path) = file(&whole.as_bytes()[..cut]);
            let (lines, told) = read(&path);
            // A line that lacks but its end is whole.
            let (ends, rest) = (whole[..cut].matches('\n').count(), whole[..cut].rsplit('\n').next().unwrap());
            assert_eq!(lines.len(), ends + usize::from(rest.ends_with('}')), "{cut}");
            assert_eq!(told.is_empty(), rest.is_empty() || rest.ends_with('}'), "{cut}: {told:?}");
        }
        let newer = line(X, "r").replace("\"format\":1", "\"format\":2");
        for strange in [newer.as_bytes(), b"\x7fELF\x00\xff\n\xfe", b"[1]\n", &[0; 4096], b"{\"format\":1}\n"] {
            let (_folder, path) = file(&[line(X, "r").as_bytes(), strange].concat());
            let (opened, told, _) = Deaths::open(&path);
            assert_eq!(opened.all().len(), 1, "{strange:?}");
            assert!(told[0].contains("of another version or torn"), "{told:?}");
            // It is told once.
            assert_eq!(read(&path).1, Vec::<String>::new());
        }
        let folder = tempfile::tempdir().unwrap();
        let (opened, told, _) = Deaths::open(folder.path());
        assert!(opened.is_empty() && told.len() == 2, "{told:?}");
    }
}
