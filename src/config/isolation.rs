use std::time::Duration;

use super::File;

/// Which plugins run in a process of their own, and what such a process may do; `plugins.process` in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Isolation {
    /// All that do not say otherwise.
    pub all: bool,
    /// Names of those that do.
    pub plugins: Vec<String>,
    /// Bytes of addresses; 0 for no limit, as with files and their size.
    pub memory: u64,
    pub files: u64,
    /// Bytes.
    pub file_size: u64,
    pub call_timeout: Duration,
    /// Lines a second.
    pub log_lines: u64,
    /// Names of variables.
    pub environment: Vec<String>,
}

pub(super) fn isolation(file: &mut File) -> Option<Isolation> {
    let all = file.text("plugins.isolation").and_then(|text| match text.to_lowercase().as_str() {
        "none" => Some(false),
        "process" => Some(true),
        _ => file.wrong("plugins.isolation", &text, "none or process"),
    });
    let plugins = texts(file, "plugins.isolated");
    let memory = bound(file, "plugins.process.memory", 0);
    let files = bound(file, "plugins.process.files", 0);
    let file_size = bound(file, "plugins.process.fileSize", 0);
    let call_timeout = file.span("plugins.process.callTimeout").and_then(|span| match span {
        Duration::ZERO => file.wrong("plugins.process.callTimeout", "0", "a span above zero, for example 30s"),
        span => Some(span),
    });
    let log_lines = bound(file, "plugins.process.logLines", 1);
    let environment = texts(file, "plugins.process.environment");
    Some(Isolation {
        all: all?,
        plugins: plugins?,
        memory: memory?,
        files: files?,
        file_size: file_size?,
        call_timeout: call_timeout?,
        log_lines: log_lines?,
        environment: environment?,
    })
}

fn bound(file: &mut File, name: &str, least: u64) -> Option<u64> {
    let number = file.whole(name)?;
    let fits = u64::try_from(number).ok().filter(|number| *number >= least);
    fits.or_else(|| file.wrong(name, &number.to_string(), &format!("a whole number from {least} on")))
}

fn texts(file: &mut File, name: &str) -> Option<Vec<String>> {
    file.typed(name, "a list of texts", |value| {
        value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> (Option<Isolation>, Vec<String>) {
        let mut file = File::built_in().unwrap();
        file.add_yaml(yaml, "kuiper.yaml");
        let read = isolation(&mut file);
        (read, file.finish().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn by_default_nothing_is_isolated_and_limits_are_set() {
        let (read, found) = read("");
        let read = read.unwrap();
        assert_eq!((read.all, read.plugins.len(), found.len()), (false, 0, 0));
        assert_eq!((read.memory, read.files, read.call_timeout), (1 << 30, 1024, Duration::from_secs(30)));
        assert!(read.environment.contains(&"PATH".to_owned()));
    }

    #[test]
    fn what_is_written_holds_and_nonsense_is_named() {
        let (good, found) = read("plugins:\n  isolated: [mysql]\n  process:\n    memory: 0\n    callTimeout: 5s\n");
        let good = good.unwrap();
        assert_eq!((good.plugins, good.memory, good.call_timeout), (vec!["mysql".into()], 0, Duration::from_secs(5)));
        assert!(found.is_empty());
        let (bad, found) = read("plugins:\n  isolation: jail\n  process:\n    files: -1\n    callTimeout: 0\n");
        assert!(bad.is_none());
        for name in ["plugins.isolation", "plugins.process.files", "plugins.process.callTimeout"] {
            assert!(found.iter().any(|text| text.contains(name)), "{found:?}");
        }
    }
}
