//! The settings of the process: what was written, and what holds.
//!
//! - [`File`] is what was written, in layers: the built-in file, the user's, the environment. Each value remembers
//!   where it stood, so that a mistake is answered with its place.
//! - [`Settings`] is what holds on this machine, typed, flags laid over.
//! - [`Layers`] does the same for the connectors' own files, which have sections: `default` and named ones.
//!
//! Names heed no case. A setting that nobody knows is an error with the nearest name; one of eKuiper's without a
//! meaning here is named in one warning; one that would protect something and is not there yet is refused.

mod file;
mod install;
mod isolation;
mod keys;
mod layers;
mod secrets;
mod sinks;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::clock::parse_span;
use crate::diag::{Diagnostic, words};

pub use file::File;
pub use install::Install;
pub use isolation::Isolation;
pub use layers::{Layers, Sections};
pub use secrets::Secrets;

/// The built-in file, from which `kuiper.yaml` of a user differs.
pub const DEFAULTS: &str = include_str!("../config/kuiper.yaml");

/// Where the file is looked for when no flag names it.
const FOLDER: &str = "config";

/// What the command line says; it beats all else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--listen`: `address:port`, `:port` or a port.
    pub listen: Option<String>,
    /// `--log-level`
    pub log_level: Option<String>,
}

/// What holds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// error, warn, info, debug, trace.
    pub log_level: String,
    /// A name of the time zone database, or `Local`.
    pub timezone: String,
    /// Names of columns, entries and metadata keys fit whatever their case, where none fits exactly.
    pub ignore_case: bool,
    pub listen: SocketAddr,
    /// The port on which metrics are told, if they are: one of its own, or that of `listen`.
    pub metrics: Option<u16>,
    pub data: PathBuf,
    pub shutdown: Duration,
    /// How often schedules and failed rules are looked at, at least.
    pub patrol: Duration,
    pub external_files: bool,
    /// Bytes that a file may have that a request names by a URL, and how long it may take to come.
    pub download: (u64, Duration),
    pub install: Install,
    /// Requests may go to this machine and to private networks.
    pub private_net: bool,
    /// Options of rules that do not write them themselves.
    pub rule: Map<String, Json>,
    /// Properties of sinks that do not write them themselves.
    pub sink: Map<String, Json>,
    /// Static properties, from `KUIPER_PROPS_*`, names in lower case.
    pub props: BTreeMap<String, String>,
    /// Plugins that run in processes of their own.
    pub isolation: Isolation,
    /// What plugins may ask for by name.
    pub secrets: Secrets,
    /// Configuration of connectors.
    pub connectors: Layers,
}

impl Settings {
    /// Reads file and environment and lays the flags over. Returns the warnings beside the settings, or all errors.
    pub fn load(
        flags: &Flags,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Settings, Vec<Diagnostic>), Vec<Diagnostic>> {
        let env: BTreeMap<String, String> = env.into_iter().collect();
        let chosen = flags.config.clone().unwrap_or_else(|| Path::new(FOLDER).join("kuiper.yaml"));
        let mut file = File::built_in()?;
        match std::fs::read_to_string(&chosen) {
            Ok(text) => file.add_yaml(&text, &chosen.display().to_string()),
            Err(_) if flags.config.is_none() && !chosen.exists() => {}
            Err(error) => {
                return Err(vec![Diagnostic::error(
                    "K0701",
                    format!("cannot read `{}`: {}", chosen.display(), words(&error)),
                )]);
            }
        }
        file.add_env(&env);
        let folder = chosen.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
        let (connectors, mut found) = Layers::read(&folder, &env);
        let settings = Settings::resolve(&mut file, flags, &env, connectors);
        found.extend(file.finish());
        let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(Diagnostic::is_error);
        match settings {
            Some(settings) if errors.is_empty() => Ok((settings, warnings)),
            _ => Err(errors),
        }
    }

    /// The built-in settings, for programs and tests that have no file.
    pub fn built_in() -> Result<Settings, Vec<Diagnostic>> {
        let mut file = File::built_in()?;
        let settings = Settings::resolve(&mut file, &Flags::default(), &BTreeMap::new(), Layers::default());
        settings.ok_or_else(|| file.finish())
    }

    fn resolve(file: &mut File, flags: &Flags, env: &BTreeMap<String, String>, connectors: Layers) -> Option<Settings> {
        let level = match &flags.log_level {
            Some(level) => log_level(level)
                .or_else(|| file.fail(format!("`--log-level {level}` is no level; {LEVELS_HELP}"), None)),
            None if file.boolean("basic.debug") == Some(true) => Some("debug"),
            None => file
                .text("basic.logLevel")
                .and_then(|level| log_level(&level).or_else(|| file.wrong("basic.logLevel", &level, LEVELS_HELP))),
        };
        let ip = file.text("basic.restIp").and_then(|text| {
            let ip: Option<IpAddr> = text.parse().ok();
            ip.or_else(|| file.wrong("basic.restIp", &text, "an IP address, for example 127.0.0.1"))
        });
        let port = file.whole("basic.restPort").and_then(|port| {
            let number = u16::try_from(port).ok();
            number.or_else(|| file.wrong("basic.restPort", &port.to_string(), "a port, 0 to 65535"))
        });
        let listen = match (&flags.listen, ip, port) {
            (Some(text), Some(ip), _) => listen(text, ip).or_else(|| {
                file.fail(format!("`--listen {text}` is no address"), Some("write it as `127.0.0.1:9081` or `:9081`"))
            }),
            (None, Some(ip), Some(port)) => Some(SocketAddr::new(ip, port)),
            _ => None,
        };
        let metrics = metrics(file, listen.map_or(0, |listen| listen.port()));
        let data = flags.data.clone().or_else(|| file.text("basic.data").map(PathBuf::from));
        let shutdown = file.span("basic.gracefulShutdownTimeout");
        // Below a second eKuiper takes its default too.
        let patrol =
            file.span("basic.rulePatrolInterval").map(|span| if span < Duration::from_secs(1) { PATROL } else { span });
        let timezone = file.text("basic.timezone");
        let ignore_case = file.boolean("basic.ignoreCase");
        let external_files = file.boolean("basic.allowExternalFileAccess");
        let most = file.whole("basic.downloadMaxBytes").and_then(|most| {
            let bytes = u64::try_from(most).ok().filter(|bytes| *bytes > 0);
            bytes.or_else(|| file.wrong("basic.downloadMaxBytes", &most.to_string(), "a number of bytes above zero"))
        });
        let download_limit = file.span("basic.downloadTimeout");
        let install = install::install(file);
        let private_net = file.boolean("basic.enablePrivateNet");
        let isolation = isolation::isolation(file);
        let props = env
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("KUIPER_PROPS_")?.to_lowercase(), value.clone())))
            .collect();
        Some(Settings {
            log_level: level?.to_owned(),
            timezone: timezone?,
            ignore_case: ignore_case?,
            listen: listen?,
            metrics: metrics?,
            data: data?,
            shutdown: shutdown?,
            patrol: patrol?,
            external_files: external_files?,
            download: (most?, download_limit?),
            install: install?,
            private_net: private_net?,
            rule: file.below("rule"),
            sink: sinks::defaults(file),
            props,
            isolation: isolation?,
            secrets: Secrets::resolve(file, env),
            connectors,
        })
    }
}

/// What an interval of the patrol below a second is taken for.
const PATROL: Duration = Duration::from_secs(10);

/// The port of the metrics; the inner `None`: there is none. One that is not switched on may be any number.
fn metrics(file: &mut File, rest: u16) -> Option<Option<u16>> {
    const PORT: &str = "basic.prometheusPort";
    let wanted = file.boolean("basic.prometheus");
    let number = file.whole(PORT)?;
    match (u16::try_from(number).ok().filter(|port| *port > 0), wanted?) {
        (Some(port), on) => Some(Some(port).filter(|_| on || port == rest)),
        (None, false) => Some(None),
        (None, true) => file.wrong(PORT, &number.to_string(), "a port, 1 to 65535, for `basic.prometheus` is on"),
    }
}

const LEVELS_HELP: &str = "one of error, warn, info, debug, trace";

/// Levels of eKuiper that we do not tell apart are read as the nearest of ours.
fn log_level(text: &str) -> Option<&'static str> {
    Some(match text.to_lowercase().as_str() {
        "error" | "fatal" | "panic" => "error",
        "warn" | "warning" => "warn",
        "info" => "info",
        "debug" => "debug",
        "trace" => "trace",
        _ => return None,
    })
}

fn listen(text: &str, ip: IpAddr) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = port.parse().ok()?;
    match host {
        "" => Some(SocketAddr::new(ip, port)),
        "localhost" => Some(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port)),
        "*" => Some(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port)),
        _ => None,
    }
}

/// A duration as eKuiper reads it: text as `10s`, or a number of milliseconds.
fn span(value: &Json) -> Option<Duration> {
    match value {
        Json::String(text) => parse_span(text),
        Json::Number(number) => number.as_u64().map(Duration::from_millis),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn load(yaml: &str, pairs: &[(&str, &str)], flags: Flags) -> Result<(Settings, Vec<Diagnostic>), Vec<Diagnostic>> {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("kuiper.yaml");
        std::fs::write(&file, yaml).unwrap();
        Settings::load(&Flags { config: Some(file), ..flags }, env(pairs))
    }

    #[test]
    fn the_built_in_file_holds_and_has_no_warnings() {
        let settings = Settings::built_in().unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:9081");
        assert_eq!(settings.data, Path::new("./data"));
        assert_eq!(settings.shutdown, Duration::from_secs(4));
        assert_eq!(settings.patrol, Duration::from_secs(10));
        assert_eq!(settings.log_level, "info");
        assert_eq!(settings.rule["bufferLength"], 1024);
        assert_eq!(settings.rule["restartStrategy"]["attempts"], 0);
        assert!(File::built_in().unwrap().finish().is_empty());
    }

    #[test]
    fn every_setting_that_counts_is_in_the_built_in_file() {
        let file = File::built_in().unwrap();
        for path in keys::HONOURED {
            assert!(file.has(path), "`{path}` is not in config/kuiper.yaml");
        }
    }

    #[test]
    fn environment_beats_file_and_flags_beat_both() {
        let yaml = "Basic:\n  restport: 1111\n  logLevel: warn\n";
        let (settings, _) = load(yaml, &[], Flags::default()).unwrap();
        assert_eq!((settings.listen.port(), settings.log_level.as_str()), (1111, "warn"));
        let vars = [("KUIPER__BASIC__RESTPORT", " 2222 "), ("KUIPER__BASIC__DATA", "/var/lib/k=1")];
        let (settings, _) = load(yaml, &vars, Flags::default()).unwrap();
        assert_eq!((settings.listen.port(), settings.data.as_path()), (2222, Path::new("/var/lib/k=1")));
        let flags = Flags { listen: Some(":3333".into()), log_level: Some("debug".into()), ..Flags::default() };
        let (settings, _) = load(yaml, &vars, flags).unwrap();
        assert_eq!((settings.listen.to_string().as_str(), settings.log_level.as_str()), ("127.0.0.1:3333", "debug"));
    }

    #[test]
    fn metrics_have_a_port_of_their_own_or_that_of_rest() {
        let port =
            |yaml: &str, vars: &[(&str, &str)]| load(yaml, vars, Flags::default()).map(|(found, _)| found.metrics);
        assert_eq!(port("", &[]).unwrap(), None);
        assert_eq!(port("basic:\n  prometheus: true\n", &[]).unwrap(), Some(20499));
        assert_eq!(port("", &[("KUIPER__BASIC__PROMETHEUS", "true")]).unwrap(), Some(20499));
        assert_eq!(port("basic:\n  prometheusPort: 9081\n", &[]).unwrap(), Some(9081));
        assert_eq!(port("basic:\n  prometheusPort: 0\n  restPort: 0\n", &[]).unwrap(), None);
        assert_eq!(port("basic:\n  prometheusPort: -1\n", &[]).unwrap(), None);
        for number in ["0", "-1", "65536"] {
            let vars = [("KUIPER__BASIC__PROMETHEUSPORT", number)];
            let errors = port("basic:\n  prometheus: true\n", &vars).unwrap_err();
            let text = errors[0].to_string();
            assert!(errors.len() == 1 && text.contains(&format!("`{number}`, expected a port, 1 to 65535")), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named_with_place_and_remedy() {
        let errors = load("basic:\n  restPrt: 1\n", &[], Flags::default()).unwrap_err();
        assert_eq!(errors.len(), 1);
        let text = errors[0].to_string();
        assert!(text.contains("`basic.restPrt`") && text.contains("kuiper.yaml"), "{text}");
        assert!(text.contains("did you mean `basic.restPort`?"), "{text}");

        let errors = load("", &[("KUIPER__BASIC__RESTPORT", "many")], Flags::default()).unwrap_err();
        let text = errors[0].to_string();
        assert!(text.contains("KUIPER__BASIC__RESTPORT") && text.contains("`many`"), "{text}");

        let errors = load("basic: [1\n", &[], Flags::default()).unwrap_err();
        assert!(errors[0].to_string().contains("kuiper.yaml"), "{}", errors[0]);

        let missing = Flags { config: Some("/nowhere/kuiper.yaml".into()), ..Flags::default() };
        let errors = Settings::load(&missing, env(&[])).unwrap_err();
        assert!(errors[0].to_string().contains("/nowhere/kuiper.yaml"));
    }

    #[test]
    fn settings_of_ekuiper_warn_and_those_that_protect_are_refused() {
        let yaml =
            "basic:\n  consoleLog: true\n  rotateCount: 3\n  authentication: false\nportable:\n  pythonBin: python\n";
        let (_, warnings) = load(yaml, &[], Flags::default()).unwrap();
        assert_eq!(warnings.len(), 1);
        let text = warnings[0].to_string();
        for name in ["basic.consoleLog", "basic.rotateCount", "portable.pythonBin"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(!text.contains("authentication"), "{text}");
        assert!(load("sink:\n  enableCache: true\n", &[], Flags::default()).unwrap().1.is_empty());
        let errors = load("basic:\n  authentication: true\n", &[], Flags::default()).unwrap_err();
        assert!(errors[0].to_string().contains("`basic.authentication`"), "{}", errors[0]);
    }

    #[test]
    fn numbers_of_the_queue_that_cannot_be_are_corrected_with_a_warning() {
        let yaml = "sink:\n  bufferPageSize: 100\n  memoryCacheThreshold: 50\n  maxDiskCache: 1001\n  resendPriority: 7\n  \
            resendInterval: -1\n  queueMaxBytes: -5\n";
        let (settings, warnings) = load(yaml, &[], Flags::default()).unwrap();
        let number = |name: &str| settings.sink[name].as_i64().unwrap();
        assert_eq!((number("memoryCacheThreshold"), number("maxDiskCache")), (100, 1100));
        assert_eq!((number("resendPriority"), number("queueMaxBytes")), (0, 0));
        assert!(!settings.sink.contains_key("resendInterval"));
        let told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert!(told.contains(&"`sink.maxDiskCache` cannot be 1001; 1100 is used".to_owned()), "{told:?}");
        assert_eq!(told.len(), 5, "{told:?}");
        let errors = load("sink:\n  queueSync: often\n  retryInterval: soon\n", &[], Flags::default()).unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(load("sink:\n  retryInterval: 0\n", &[], Flags::default()).is_err());
    }

    #[test]
    fn static_properties_come_from_the_environment() {
        let (settings, _) = load("", &[("KUIPER_PROPS_Site", "north")], Flags::default()).unwrap();
        assert_eq!(settings.props["site"], "north");
    }
}
