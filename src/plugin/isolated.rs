//! Isolation: a plugin that runs in a process of its own, which is this program again, behind the tables that a library
//! in this process has.
//!
//! Nouns: a [`Keeper`](keeper::Keeper) starts the process of a library, and the next when it has died; a lane is a socket
//! on which one call at a time is made; a `Remote` stands for a symbol, a `Made` for an instance. One process serves all
//! instances of a library, for aggregates have one for each group, and singletons are shared: a crash costs the rules that
//! use the plugin, and no others. What crosses is the contract's structs, flattened (`wire`); the engine's side believes
//! nothing that comes, maps nothing of the plugin, and waits for nothing longer than it was told to.
//!
//! `context`, `host`, `limits` and `served` run in the plugin's process, all else in the engine's.

mod calls;
mod context;
mod gate;
mod host;
mod keeper;
mod lane;
mod limits;
mod manifest;
mod process;
mod protocol;
mod remote;
mod served;
mod upcall;
mod wire;

use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::home::Home;
use super::library::Symbol;

pub use host::main;
pub use keeper::Keeper;
pub use process::patiently;

/// Which plugins run in a process of their own, and what such a process may do.
#[derive(Clone, Debug)]
pub struct Isolation {
    /// All do, that do not say otherwise.
    pub all: bool,
    /// Those do, of whatever kind.
    pub plugins: Vec<String>,
    /// This program, which the processes run as `plugin-host`.
    pub program: PathBuf,
    /// Bytes of addresses; 0 for as many as the engine may have, as with all that follow.
    pub memory: u64,
    /// Files that may be open.
    pub files: u64,
    /// Bytes of a file that is written.
    pub file_size: u64,
    /// How long a call may take.
    pub call: Duration,
    /// Lines a second that may go to the log.
    pub log_lines: u64,
    /// Variables of the environment that are passed on; no other is.
    pub environment: Vec<String>,
}

impl Default for Isolation {
    fn default() -> Isolation {
        let passed = ["PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"];
        Isolation {
            all: false,
            plugins: Vec::new(),
            // Also when the file was replaced since it was started.
            program: PathBuf::from("/proc/self/exe"),
            memory: 1 << 30,
            files: 1024,
            file_size: 1 << 30,
            call: Duration::from_secs(30),
            log_lines: 50,
            environment: passed.map(str::to_owned).to_vec(),
        }
    }
}

/// What is told of the process of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its id, while it runs.
    pub process: Option<u32>,
    /// How often one has died and was followed by another.
    pub deaths: u64,
    /// What the last one died of.
    pub last: Option<String>,
}

/// The keeper of a library that is there; without it, the process ends with the last instance.
pub struct Kept(pub Arc<Keeper>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.retire();
    }
}

/// Loads a library into a process of its own.
pub fn load(
    plugin: &str,
    path: &Path,
    settings: &Arc<Isolation>,
    home: &'static Home,
) -> Result<(Arc<Keeper>, Vec<Symbol>), String> {
    let (keeper, offered) = Keeper::start(plugin, path, settings, home)?;
    let attached = |(index, one)| remote::attach(one, index, &keeper);
    let symbols = offered.into_iter().enumerate().map(attached).collect();
    Ok((keeper, symbols))
}

/// Whether an instance was in a process that has ended.
///
/// # Safety
/// The instance was made by the symbol, and not destroyed since.
pub unsafe fn is_gone(symbol: &Symbol, this: *mut c_void) -> bool {
    // Those of functions outlive their process.
    // SAFETY: see above.
    symbol.isolated && symbol.kind != kuiper_plugin::abi::kind::FUNCTION && unsafe { remote::is_gone(this) }
}
