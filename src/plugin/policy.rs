use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Settings;
use super::sign::PublicKey;

/// Which plugins a server installs, and how.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whether `install.sh` may run at all.
    pub scripts: bool,
    /// How long it may take.
    pub script_limit: Duration,
    /// Where there are any, only what one of these has signed is installed.
    pub trusted: Vec<PublicKey>,
    /// Whether the deaths of this process are noted, and those of earlier ones heeded.
    pub deaths: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { scripts: true, script_limit: Duration::from_secs(300), trusted: Vec::new(), deaths: false }
    }
}

impl Policy {
    /// For the plugins in a folder that a server may be using, else for those in a folder of our own.
    pub fn settings(self, borrowed: Option<PathBuf>, own: &Path) -> Settings {
        let owner = borrowed.is_none();
        Settings {
            scripts: self.scripts,
            install_limit: self.script_limit,
            trusted: self.trusted,
            owner,
            deaths: self.deaths,
            ..Settings::new(borrowed.unwrap_or_else(|| own.to_owned()))
        }
    }
}
