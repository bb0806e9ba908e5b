//! Secrets: texts that plugins ask for by name, and that nobody is shown.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value as Json;

use super::File;
use crate::diag::words;

/// Names, in lower case, and texts.
#[derive(Clone, Default, PartialEq)]
pub struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// The secret of that name, which heeds no case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_lowercase()).map(String::as_str)
    }

    /// Reads what was written; what cannot be read is reported.
    pub(super) fn resolve(file: &mut File, env: &BTreeMap<String, String>) -> Secrets {
        let mut secrets = Secrets::default();
        for (name, (value, place)) in std::mem::take(&mut file.secrets) {
            match text(&value, env) {
                Ok(text) => drop(secrets.0.insert(name, text)),
                Err(wrong) => {
                    let help = "write a text, `file: /run/secrets/name` or `env: NAME`";
                    file.fail::<()>(format!("the secret `{name}` in `{place}` {wrong}"), Some(help));
                }
            }
        }
        secrets
    }
}

impl<N: Into<String>, T: Into<String>> FromIterator<(N, T)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (N, T)>>(all: I) -> Secrets {
        Secrets(all.into_iter().map(|(name, text)| (name.into().to_lowercase(), text.into())).collect())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

/// The text itself. What is wrong with it is told without a word of it.
fn text(value: &Json, env: &BTreeMap<String, String>) -> Result<String, String> {
    match value {
        Json::String(text) => Ok(text.clone()),
        Json::Number(number) => Ok(number.to_string()),
        Json::Object(members) if members.len() == 1 => match members.iter().next() {
            Some((key, Json::String(path))) if key.eq_ignore_ascii_case("file") => {
                match std::fs::read_to_string(path) {
                    // An editor ends the last line.
                    Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                    Err(error) => Err(format!("cannot be read from `{path}`: {}", words(&error))),
                }
            }
            Some((key, Json::String(name))) if key.eq_ignore_ascii_case("env") => {
                env.get(name).cloned().ok_or_else(|| format!("is in the variable `{name}`, which is not set"))
            }
            _ => Err("is neither a text nor says where it is".to_owned()),
        },
        _ => Err("is neither a text nor says where it is".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::config::{Flags, Settings};

    #[test]
    fn secrets_come_from_file_and_environment_and_are_never_shown() {
        let home = tempfile::tempdir().unwrap();
        let (file, kept) = (home.path().join("kuiper.yaml"), home.path().join("door.txt"));
        std::fs::write(&kept, "sesame\n").unwrap();
        let yaml = format!(
            "secrets:\n  plain: hunter2\n  pin: 1234\n  Door:\n    file: {}\n  token:\n    env: TOKEN\n  over: file\n",
            kept.display()
        );
        std::fs::write(&file, yaml).unwrap();
        let flags = Flags { config: Some(file.clone()), ..Flags::default() };
        let env = [("TOKEN", "abc"), ("KUIPER__SECRETS__OVER", "environment")];
        let env = env.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let settings = Settings::load(&flags, env).unwrap().0;
        let all = ["plain", "PIN", "door", "Token", "over", "none"].map(|name| settings.secrets.get(name));
        assert_eq!(all, [Some("hunter2"), Some("1234"), Some("sesame"), Some("abc"), Some("environment"), None]);
        let shown = format!("{settings:?}");
        assert!(shown.contains("\"door\"") && !shown.contains("hunter2") && !shown.contains("sesame"), "{shown}");

        std::fs::write(&file, "secrets:\n  a: [hunter2]\n  b:\n    file: /nowhere/b\n  c:\n    env: NONE\n").unwrap();
        let found = Settings::load(&flags, []).unwrap_err();
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        let text = told.join("\n");
        assert_eq!(told.len(), 3, "{text}");
        assert!(text.contains("`a`") && text.contains("`/nowhere/b`") && text.contains("`NONE`"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
