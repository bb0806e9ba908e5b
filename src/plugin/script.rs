//! `install.sh`: what a plugin wants done on the machine that it is installed on. It runs in the folder that its zip was
//! unpacked in, as the server's user, in a process group of its own that ends with it or with its time. Of the server's
//! environment, which may hold secrets, it gets what installing takes and no more.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// Variables of the environment that are passed on. Those of proxies are so in small and in capital letters.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "DEBIAN_FRONTEND",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
const PROXIES: &[&str] = &["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];

/// Bytes of what it prints that are kept, from its end.
const KEPT: usize = 16 << 10;

/// How long its last words may take to come once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs it, and returns what it printed; the error holds that too.
pub fn run(folder: &Path, parameters: &[String], limit: Duration) -> Result<String, String> {
    let (ended, text) =
        in_time(folder, parameters, limit).map_err(|error| format!("cannot run install.sh: {error}"))?;
    let said = if text.is_empty() { "; it printed nothing".to_owned() } else { format!(": {text}") };
    match ended {
        Some(status) if status.success() => Ok(text),
        Some(status) => Err(format!("install.sh failed ({status}){said}")),
        None => Err(format!("install.sh did not end within {} s and was stopped{said}", limit.as_secs_f64())),
    }
}

fn is_passed(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    PASSED.contains(&name) || PROXIES.iter().any(|proxy| name == *proxy || name == proxy.to_uppercase())
}

/// How it ended, `None` where it took too long; and what it printed.
fn in_time(folder: &Path, parameters: &[String], limit: Duration) -> io::Result<(Option<ExitStatus>, String)> {
    let (mut output, input) = io::pipe()?;
    let mut command = Command::new("/bin/sh");
    command.arg("install.sh").args(parameters).current_dir(folder);
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_passed(name)));
    command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
    // A group of its own, so that what it starts ends with it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.spawn()?;
    // The command holds the pipe open.
    drop(command);
    let kept: Arc<Mutex<VecDeque<u8>>> = Arc::default();
    let (done, read) = mpsc::sync_channel(1);
    let keeps = kept.clone();
    let reader = thread::Builder::new().name("install.sh".into()).spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(size) = output.read(&mut piece) {
            if size == 0 {
                break;
            }
            let mut kept = keeps.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend(&piece[..size]);
            let over = kept.len().saturating_sub(KEPT);
            kept.drain(..over);
        }
        // Whoever asked may be gone.
        let _ = done.send(());
    });
    let ended = wait(child, limit);
    if reader.is_ok() {
        // What left the group may hold the pipe for ever; what was read until then is what there is.
        let _ = read.recv_timeout(LAST_WORDS);
    }
    let bytes: Vec<u8> = kept.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
    Ok((ended?, String::from_utf8_lossy(&bytes).trim().to_owned()))
}

/// Waits for a process, and kills all that it started and left behind; one that takes too long is killed with it, and
/// `None` returned.
fn wait(mut child: Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let id = child.id();
    // True once the process is reaped: until then nobody else can be given its number.
    let reaped = Arc::new(Mutex::new(false));
    let end = move |reaped: &bool| {
        if !reaped {
            // SAFETY: it only sends a signal, to the group of the process that was started here.
            unsafe { libc::kill(-(id as i32), libc::SIGKILL) };
        }
    };
    let (told, ended) = mpsc::sync_channel(1);
    let waits = reaped.clone();
    let waiter = thread::Builder::new().name("install.sh".into()).spawn(move || {
        // SAFETY: all zeros is a value of this type, and it is only written to.
        let mut about: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: it waits for a child of ours, and leaves it to be reaped.
        while unsafe { libc::waitid(libc::P_PID, id, &mut about, libc::WEXITED | libc::WNOWAIT) } != 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
        let mut reaped = waits.lock().unwrap_or_else(PoisonError::into_inner);
        end(&reaped);
        *reaped = true;
        // Whoever waits is there.
        let _ = told.send(child.wait());
    });
    waiter?;
    match ended.recv_timeout(limit) {
        Ok(status) => status.map(Some),
        Err(_) => {
            end(&reaped.lock().unwrap_or_else(PoisonError::into_inner));
            // The thread reaps it.
            drop(ended.recv());
            Ok(None)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Instant;

    fn ran(script: &str, limit: Duration) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("install.sh"), script).unwrap();
        run(folder.path(), &["one".into(), "two words".into()], limit)
    }

    const LONG: Duration = Duration::from_secs(60);
    /// It prints what it prints by then, on a machine that has much else to do, too.
    const SHORT: Duration = Duration::from_secs(2);

    #[test]
    fn it_is_given_its_time_and_no_more() {
        assert_eq!(ran("test \"$1$2\" = 'onetwo words' && echo done", LONG), Ok("done".into()));
        assert_eq!(
            ran("echo no; echo such package >&2; exit 3", LONG),
            Err("install.sh failed (exit status: 3): no\nsuch package".into())
        );
        assert_eq!(ran("exit 3", LONG), Err("install.sh failed (exit status: 3); it printed nothing".into()));
        let stopped = "install.sh did not end within 2 s and was stopped";
        assert_eq!(ran("sleep 1000 & wait", SHORT), Err(format!("{stopped}; it printed nothing")));
        assert_eq!(ran("echo begun; sleep 1000 & wait", SHORT), Err(format!("{stopped}: begun")));
    }

    #[test]
    fn it_gets_no_more_of_the_environment_than_installing_takes() {
        // Cargo gives this process some that are none of its business.
        let ours: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
        assert!(ours.iter().any(|name| name.starts_with("CARGO")), "{ours:?}");
        let printed = ran("env", LONG).unwrap();
        let names: Vec<&str> = printed.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        // The shell sets three by itself.
        let known = |name: &&str| is_passed(OsStr::new(name)) || ["PWD", "SHLVL", "_", "OLDPWD"].contains(name);
        assert!(names.iter().all(known), "{printed}");
        assert!(names.contains(&"PATH"), "{printed}");
        let passed = ["HOME", "TMPDIR", "https_proxy", "HTTPS_PROXY", "NO_PROXY"];
        assert!(passed.iter().all(|name| is_passed(OsStr::new(name))));
        let secret = ["KUIPER__SECRETS__DB", "Https_Proxy", "MYSQL_PWD", "PATHS", "LD_PRELOAD"];
        assert!(!secret.iter().any(|name| is_passed(OsStr::new(name))));
    }

    #[test]
    fn what_it_starts_ends_with_it() {
        let begun = Instant::now();
        assert_eq!(ran("echo begun; sleep 1000 &", LONG), Ok("begun".into()));
        // It would hold the pipe open.
        assert!(begun.elapsed() < Duration::from_secs(30));
        let told = ran("trap '' TERM; sh -c 'sleep 1000 & echo $!; wait' & wait", SHORT).unwrap_err();
        let sleeper: i32 = told.rsplit(' ').next().unwrap().parse().unwrap();
        let stat = |id: i32| fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let deadline = Instant::now() + LONG;
        // Whoever inherits it reaps it when it comes to that.
        while stat(sleeper).contains("sleep") && !stat(sleeper).contains(") Z ") {
            assert!(Instant::now() < deadline, "{}", stat(sleeper));
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_flood_of_words_is_kept_from_its_end() {
        let told = ran("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 1", LONG).unwrap_err();
        assert!(told.len() < KEPT + 100 && told.ends_with("line 19999"), "{}", told.len());
    }
}
