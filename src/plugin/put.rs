//! From a zip to a plugin that can be used: looked through, unpacked, checked, its script run, loaded, and only then
//! stored, in one step.

use std::fs;
use std::path::Path;

use super::install::Staging;
use super::package::Package;
use super::sign::Asking;
use super::swap::{Judge, Moved, Swap};
use super::{Description, Install, Kind, Plugins, Refusal, Settings, name, script, shelf};

impl Plugins {
    /// Puts a plugin in its place, over one that may be there and that rules may use.
    pub(super) fn put(
        &self,
        kind: Kind,
        wish: &Install,
        zip: &Path,
        judge: &Judge<'_>,
    ) -> Result<(Description, Moved), Refusal> {
        let (shelf, settings) = self.home()?;
        // Whoever installs it is there to see what becomes of it.
        shelf.deaths.forget_plugin(kind, &wish.name);
        let mut package = Package::open(zip, kind, &wish.name).map_err(Refusal::Invalid)?;
        if !settings.trusted.is_empty() {
            package.check_signature(&settings.trusted, Asking::Server).map_err(Refusal::Invalid)?;
        }
        if package.has("install.sh") && !settings.scripts {
            let text = "the zip has an install.sh, and this server runs none; do by hand what it does and pack the plugin \
                        without it, or set `plugins.allowInstallScript: true`";
            return Err(Refusal::Invalid(text.into()));
        }
        if !wish.shell_params.is_empty() && !package.has("install.sh") {
            return Err(Refusal::Invalid("there are shell parameters, and the zip holds no install.sh".into()));
        }
        let key = (kind, name::canonical(&wish.name));
        let staging =
            shelf.stage(kind, &key.1).map_err(|error| Refusal::Invalid(format!("cannot install: {error}")))?;
        let swap = self.put_staged(&key, wish, &mut package, staging, settings, judge).map_err(Refusal::Invalid)?;
        let moved = swap.commit();
        self.sweep(&key);
        Ok((self.describe(kind, &wish.name)?, moved))
    }

    /// Everything that can fail comes before anything that is seen; instances of the new version are ready by then.
    fn put_staged(
        &self,
        key: &(Kind, String),
        wish: &Install,
        package: &mut Package,
        mut staging: Staging<'_>,
        settings: &Settings,
        judge: &Judge<'_>,
    ) -> Result<Swap, String> {
        let Some((shelf, _)) = &self.0.home else { return Err("there is no data folder".into()) };
        package.unpack(&staging.unpacked())?;
        let (path, file) = &package.library;
        let at = |wrong: String| format!("`{}`: {wrong}", path.display());
        // A script runs for a library that can be loaded here, and for no other.
        staging.check(path).map_err(|wrong| at(package.with_targets(wrong)))?;
        let mut said = String::new();
        if package.has("install.sh") {
            said = script::run(&staging.unpacked(), &wish.shell_params, settings.install_limit)?;
            tracing::info!(plugin = %key.1, "install.sh is done; it printed: {said}");
        }
        let library = staging.library(path, file, wish.isolated).map_err(at)?;
        let loaded = self.state().fitted(key, &file.version, library, &wish.functions, &mut Vec::new()).map_err(at)?;
        let functions = self.state().catalogue(Some((key, &loaded)));
        judge(&functions).map_err(at)?;
        let swap = Swap::prepare(&self.place(key.0, &key.1), &loaded.edition).map_err(at)?;
        let stored = staging.metadata().and_then(|()| {
            if let Some(isolated) = wish.isolated {
                staging.add("isolation", shelf::isolation(isolated), shelf.isolated(key.0, &key.1))?;
            }
            if !wish.functions.is_empty() {
                staging.add("functions", &serde_json::to_vec(&wish.functions)?, shelf.declared(&key.1))?;
            }
            let log = shelf.script_log(key.0, &key.1);
            if !said.is_empty() || log.exists() {
                staging.add("install.log", said.as_bytes(), log)?;
            }
            staging.commit()
        });
        stored.map_err(|error| at(format!("cannot store its files: {error}")))?;
        let mut state = self.state();
        state.loaded.insert(key.clone(), loaded);
        state.broken.remove(key);
        Ok(swap)
    }

    /// Removes copies of libraries whose processes have ended. For who holds `changing`.
    pub(super) fn sweep(&self, key: &(Kind, String)) {
        if let Some((shelf, settings)) = &self.0.home
            && settings.owner
        {
            shelf.sweep(key.0, &key.1, &self.place(key.0, &key.1).files());
        }
    }

    /// What `install.sh` of a plugin has printed.
    pub(super) fn install_output(&self, kind: Kind, plugin: &str) -> String {
        let log = self.0.home.as_ref().map(|(shelf, _)| shelf.script_log(kind, plugin));
        log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default()
    }
}
