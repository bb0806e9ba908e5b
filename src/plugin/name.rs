//! Names: of kinds, plugins, files, versions and symbols.
//!
//! `Mysql@v1.0.0+0123456789abcdef.so` is version `1.0.0` of the plugin `mysql`, whose symbol is `Mysql`; what follows
//! the `+` is the hash of its content and says that we put the file there.

use std::cmp::Ordering;

use super::Refusal;

/// The three kinds of plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Sources,
    Sinks,
    Functions,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Sources, Kind::Sinks, Kind::Functions];

    /// As in paths: `sources`.
    pub fn many(self) -> &'static str {
        match self {
            Kind::Sources => "sources",
            Kind::Sinks => "sinks",
            Kind::Functions => "functions",
        }
    }

    /// As in sentences: `source`.
    pub fn one(self) -> &'static str {
        match self {
            Kind::Sources => "source",
            Kind::Sinks => "sink",
            Kind::Functions => "function",
        }
    }

    /// Reads `sources` or `source`.
    pub fn read(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.many() == text || kind.one() == text)
    }
}

/// Letters of a name of a plugin, and of a version.
const LONGEST: usize = 100;

/// Checks the name of a plugin: letters, digits, hyphens and underscores.
pub fn checked(name: &str) -> Result<&str, Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() {
        return Err(Refusal::Invalid("the name of the plugin is empty".into()));
    }
    if name.len() > LONGEST || !name.bytes().all(allowed) {
        return Err(Refusal::Invalid(format!(
            "`{}` is no name of a plugin: it may hold letters, digits, hyphens and underscores, {LONGEST} at most",
            name.chars().take(LONGEST).collect::<String>().escape_debug()
        )));
    }
    Ok(name)
}

/// The name with its first letter in upper case: the symbol.
pub fn symbol(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// The symbol of the lookup table that stands beside a source of that symbol.
pub fn lookup_symbol(symbol: &str) -> String {
    format!("{symbol}Lookup")
}

/// What a library exports, kinds and names, as in sentences: "sink `Lines`, function `vowels`".
pub fn listed<'n>(exported: impl IntoIterator<Item = (&'n str, &'n str)>) -> String {
    let all: Vec<String> = exported.into_iter().map(|(what, name)| format!("{what} `{name}`")).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

/// The name with its first letter in lower case: two names that differ only there are the same plugin.
pub fn canonical(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// Checks a version, without the leading `v`; the error is a sentence.
pub fn checked_version(version: &str) -> Result<&str, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    let whole = version.starts_with(|first: char| first.is_ascii_alphanumeric()) && !version.contains("..");
    if version.len() <= LONGEST && whole && version.bytes().all(allowed) {
        return Ok(version);
    }
    let shown: String = version.chars().take(LONGEST).collect();
    Err(format!(
        "`{}` is no version: it begins with a letter or digit and may hold letters, digits and `-`, `_`, `+`, single \
         dots between them, {LONGEST} at most",
        shown.escape_debug()
    ))
}

/// What the name of a library says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    /// First letter in lower case.
    pub plugin: String,
    /// Without the leading `v`; empty where there is none.
    pub version: String,
    /// The hash of its content, where we put the file there.
    pub hash: Option<String>,
}

impl FileName {
    /// Reads the name of a file; `None` where it is no library of a plugin.
    pub fn read(file: &str) -> Option<FileName> {
        FileName::parse(file).ok()
    }

    /// The same; the error is a sentence.
    pub fn parse(file: &str) -> Result<FileName, String> {
        let shown: String = file.chars().take(LONGEST).collect();
        let wrong = |why: String| format!("`{}` is no name of a library: {why}", shown.escape_debug());
        let stem = file.strip_suffix(".so").ok_or_else(|| wrong("it does not end in `.so`".into()))?;
        let (name, rest) = stem.split_once('@').unwrap_or((stem, ""));
        checked(name).map_err(|refused| wrong(refused.to_string()))?;
        let (version, hash) = match rest.rsplit_once('+') {
            Some((version, hash)) if is_hash(hash) => (version, Some(hash.to_owned())),
            _ => (rest, None),
        };
        let version = version.strip_prefix('v').unwrap_or(version);
        if !version.is_empty() {
            checked_version(version).map_err(wrong)?;
        }
        Ok(FileName { plugin: canonical(name), version: version.to_owned(), hash })
    }

    /// The name of the file that we put there.
    pub fn mapped(&self, hash: &str) -> String {
        let version = if self.version.is_empty() { String::new() } else { format!("v{}", self.version) };
        format!("{}@{version}+{hash}.so", symbol(&self.plugin))
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Compares versions: numbers as numbers, a pre-release (`1.0.0-rc1`) before its release, no version before all.
pub fn compare_versions(one: &str, two: &str) -> Ordering {
    fn parts(version: &str) -> (Vec<&str>, Option<Vec<&str>>) {
        let version = version.split('+').next().unwrap_or("");
        let (numbers, before) = version.split_once('-').map_or((version, None), |(n, before)| (n, Some(before)));
        (numbers.split('.').collect(), before.map(|before| before.split('.').collect()))
    }
    fn part(one: &str, two: &str) -> Ordering {
        match (one.parse::<u64>(), two.parse::<u64>()) {
            (Ok(one), Ok(two)) => one.cmp(&two),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            _ => one.cmp(two),
        }
    }
    fn all(one: &[&str], two: &[&str]) -> Ordering {
        let firsts = one.iter().zip(two).map(|(one, two)| part(one, two)).find(|order| order.is_ne());
        firsts.unwrap_or_else(|| one.len().cmp(&two.len()))
    }
    if one.is_empty() || two.is_empty() {
        return one.len().cmp(&two.len());
    }
    let ((one, one_before), (two, two_before)) = (parts(one), parts(two));
    all(&one, &two).then_with(|| match (one_before, two_before) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(one), Some(two)) => all(&one, &two),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        for (file, plugin, version, hash) in [
            ("Mysql@v1.0.0.so", "mysql", "1.0.0", None),
            ("mysql.so", "mysql", "", None),
            ("Mysql@1.0.0-rc1.so", "mysql", "1.0.0-rc1", None),
            ("Mysql@v1.0.0+0123456789abcdef.so", "mysql", "1.0.0", Some("0123456789abcdef")),
            ("Mysql@+0123456789abcdef.so", "mysql", "", Some("0123456789abcdef")),
        ] {
            let read = FileName::read(file).unwrap();
            assert_eq!((read.plugin.as_str(), read.version.as_str(), read.hash.as_deref()), (plugin, version, hash));
            if let Some(hash) = hash {
                assert_eq!(read.mapped(hash), file);
            }
        }
        for file in
            ["mysql.dll", "../mysql.so", ".so", "my sql.so", "Mysql@v...so", "Mysql@v1/../2.so", "Mysql@v1\n.so"]
        {
            assert_eq!(FileName::read(file), None, "{file:?}");
        }
        assert_eq!(FileName::read(&format!("Mysql@v{}.so", "1".repeat(101))), None);
        let told = FileName::parse("Mysql@v1..2.so").unwrap_err();
        assert!(told.starts_with("`Mysql@v1..2.so` is no name of a library: `1..2` is no version: "), "{told}");
    }

    #[test]
    fn versions_in_order() {
        let order = ["", "0.9", "1.0.0-rc1", "1.0.0-rc1.1", "1.0.0", "1.0.9", "1.0.10", "1.1", "2"];
        for pair in order.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{} < {}", pair[0], pair[1]);
            assert_eq!(compare_versions(pair[1], pair[0]), Ordering::Greater);
        }
        assert_eq!(compare_versions("1.0.0", "1.0.0+build"), Ordering::Equal);
    }

    #[test]
    fn names() {
        for name in ["", "a/b", "..", "a b", "ä", "a\n"] {
            assert!(checked(name).is_err(), "{name}");
        }
        assert_eq!(checked("my_Sql-2"), Ok("my_Sql-2"));
        assert_eq!((symbol("mysql").as_str(), canonical("Mysql").as_str()), ("Mysql", "mysql"));
    }
}
