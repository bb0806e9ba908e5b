//! What the process of a plugin may not do, set by itself before anything of the plugin is loaded; and its last words,
//! by which the engine knows whose call ended it.

use std::ptr::null_mut;

use super::context::{CONTROL, NUMBER};
use super::protocol::packet;

/// Sets the limits; 0 stands for none. They hold for what the plugin starts as well.
pub fn apply(memory: u64, files: u64, length: u64) -> Result<(), String> {
    // SAFETY: these calls take numbers, and change nothing but this process.
    unsafe {
        // Should the engine end without a word, so does this process; it may have ended already.
        let engine = libc::getppid();
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        if libc::getppid() != engine {
            return Err("the engine has ended".into());
        }
        // No program that the plugin starts can get rights that this one has not.
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(format!("rights cannot be given up: {}", std::io::Error::last_os_error()));
        }
    }
    limit(libc::RLIMIT_CORE.into(), Some(0))?;
    limit(libc::RLIMIT_AS.into(), Some(memory).filter(|bytes| *bytes > 0))?;
    limit(libc::RLIMIT_NOFILE.into(), Some(files).filter(|count| *count > 0))?;
    limit(libc::RLIMIT_FSIZE.into(), Some(length).filter(|bytes| *bytes > 0))
}

fn limit(what: i64, most: Option<u64>) -> Result<(), String> {
    let Some(most) = most else { return Ok(()) };
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: there is room for the answer; what is not allowed is refused.
    let done = unsafe {
        libc::getrlimit(what as _, &mut now);
        // What the engine itself may not exceed cannot be allowed here.
        let most = (most as libc::rlim_t).min(now.rlim_max);
        libc::setrlimit(what as _, &libc::rlimit { rlim_cur: most, rlim_max: most })
    };
    if done == 0 { Ok(()) } else { Err(format!("a limit cannot be set: {}", std::io::Error::last_os_error())) }
}

/// Tells the engine from now on which thread ends the process, by a signal or by calling `exit`.
pub fn hear_the_end() {
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGSYS, libc::SIGXFSZ]
    {
        // SAFETY: the handler only sends a packet, and then the signal does what it always does.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = falling as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESETHAND | libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigaction(signal, &action, null_mut());
        }
    }
    // SAFETY: the function lives as long as the process.
    unsafe { libc::atexit(leaving) };
}

extern "C" fn falling(signal: libc::c_int) {
    last_words();
    // The instruction that failed fails again, now with the usual end; signals that someone sent are sent again.
    if !matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE) {
        // SAFETY: it may be called in a handler.
        unsafe { libc::raise(signal) };
    }
}

extern "C" fn leaving() {
    last_words();
}

/// Allocates nothing and takes no lock.
fn last_words() {
    if let Some(control) = CONTROL.get() {
        let words = [packet::FELL, NUMBER.get(), 0, 0];
        // SAFETY: the words are there; a line that is gone or full is not waited for.
        unsafe {
            libc::send(
                control.fd(),
                words.as_ptr().cast(),
                size_of_val(&words),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
    }
}
