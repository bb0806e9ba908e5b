//! What the log says of each plugin that is installed, replaced or deleted: one line, also where it was refused.
//!
//! What a request says is shown without what may be secret (a user, a password, a query), cut, and on one line.

use reqwest::Url;

use super::super::{Answer, Server};
use crate::plugin::Kind;

/// Letters of a name, and of a reason, that are shown.
const NAME: usize = 100;
const REASON: usize = 1000;

/// A request about a plugin, as far as it is understood.
pub(super) struct Deed {
    kind: Kind,
    plugin: String,
    /// Where the zip comes from, as it was asked for and as it is shown; empty where none does.
    from: (String, String),
    /// The version that was there before; empty for none.
    before: String,
    /// What became of the rules that use it, as the answer says it.
    pub users: String,
}

impl Deed {
    pub fn new(server: &Server, kind: Kind, plugin: &str) -> Deed {
        let before = version(server, kind, plugin);
        Deed { kind, plugin: line(plugin, NAME), from: Default::default(), before, users: String::new() }
    }

    /// The plugin and the zip that the request names.
    pub fn asks(&mut self, plugin: &str, file: &str) {
        self.plugin = line(plugin, NAME);
        self.from = (file.to_owned(), format!(" from {}", line(&plain(file), REASON)));
    }

    /// Writes what has come of it: `done` is the word for it, `installed`, `replaced` or `deleted`.
    pub fn close(self, server: &Server, done: &str, answer: &Answer) {
        let Deed { kind, plugin, from: (asked, from), before, users } = self;
        let now = version(server, kind, &plugin);
        let kind = kind.one();
        let versions = match (before.as_str(), now.as_str()) {
            (before, now) if before.is_empty() || before == now => now.to_owned(),
            (before, "") => before.to_owned(),
            (before, now) => format!("{now} in the place of {before}"),
        };
        match answer {
            Ok(_) => tracing::info!(kind, plugin, "plugin {done}: {versions}{from}{users}"),
            Err(refusal) => {
                let why = match asked.is_empty() {
                    true => line(refusal.message(), REASON),
                    false => line(&refusal.message().replace(&asked, &plain(&asked)), REASON),
                };
                tracing::warn!(kind, plugin, "plugin not {done}{from}: {why}");
            }
        }
    }
}

fn version(server: &Server, kind: Kind, plugin: &str) -> String {
    server.host().plugins.describe(kind, plugin).map(|found| found.version).unwrap_or_default()
}

/// The URL without its user, password and query; of what is none, nothing.
fn plain(file: &str) -> String {
    match Url::parse(file) {
        Ok(url) if url.scheme() == "file" => format!("file://{}", url.path()),
        Ok(url) => match url.host_str() {
            Some(host) => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                format!("{}://{host}{port}{}", url.scheme(), url.path())
            }
            None => "what is no URL".to_owned(),
        },
        Err(_) => "what is no URL".to_owned(),
    }
}

fn line(text: &str, most: usize) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_zip_comes_from_is_shown_without_what_may_be_secret() {
        for (file, shown) in [
            ("https://me:secret@host:8443/a/x.zip?token=secret#secret", "https://host:8443/a/x.zip"),
            ("file:///data/uploads/x.zip", "file:///data/uploads/x.zip"),
            ("me:secret@host/x.zip", "what is no URL"),
            ("/x.zip", "what is no URL"),
        ] {
            assert_eq!(plain(file), shown);
        }
        assert_eq!(line("a\nb\u{1b}c", 4), "a b ");
    }
}
