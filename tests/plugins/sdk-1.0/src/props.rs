//! Properties: what the user wrote in the rule, decoded into the plugin's own struct.
//!
//! [`properties!`](crate::properties) declares the struct, its defaults and its documentation in one place; [`Props`] is what it is decoded
//! from, for those who want to do it by hand. Names are compared without regard to case; types are strict, save that a whole float is an
//! integer (JSON knows no difference) and a duration is a number of milliseconds or a text such as `1m30s`. Every complaint names the property.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::value::{Owned, Record, Value};

/// Properties not yet decoded.
#[derive(Debug)]
pub struct Props<'a> {
    given: Vec<(&'a str, Value<'a>)>,
    known: Vec<String>,
}

/// A property as it is documented.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// What it means.
    pub about: String,
    /// What is expected, in words.
    pub expects: String,
    /// Its value where it is not given; `None` where it must be.
    pub default: Option<Owned>,
    /// Whether its value is never shown.
    pub secret: bool,
}

/// A struct that is decoded from properties.
pub trait Properties: Sized {
    /// Decodes; what is left over afterwards is unknown, and an error.
    fn decode(props: &mut Props<'_>) -> Result<Self>;

    /// The properties that it knows.
    fn schema() -> Vec<Property> {
        Vec::new()
    }
}

/// For plugins without properties.
impl Properties for () {
    fn decode(_: &mut Props<'_>) -> Result<()> {
        Ok(())
    }
}

/// For plugins that take any property.
impl Properties for Record {
    fn decode(props: &mut Props<'_>) -> Result<Record> {
        Ok(props.given.drain(..).map(|(name, value)| (name, value.to_owned())).collect())
    }
}

impl<'a> Props<'a> {
    pub(crate) fn new(object: Value<'a>) -> Props<'a> {
        let given = match object {
            Value::Object(members) => members.iter().collect(),
            _ => Vec::new(),
        };
        Props { given, known: Vec::new() }
    }

    /// The value of a property, or of one of its other names; `None` where it is missing or null.
    pub fn get<T: PropertyType>(&mut self, names: &[&str]) -> Result<Option<T>> {
        self.known.extend(names.iter().map(|name| (*name).to_owned()));
        let mut found = None;
        for name in names {
            while let Some(at) = self.given.iter().position(|(given, _)| given.eq_ignore_ascii_case(name)) {
                let (given, value) = self.given.remove(at);
                if value.is_null() || found.is_some() {
                    continue;
                }
                let read = T::read(value).map_err(|wrong| Error::never(format!("property `{}`: {}", given, wrong)))?;
                found = Some(read);
            }
        }
        Ok(found)
    }

    /// The value of a property that must be given.
    pub fn required<T: PropertyType>(&mut self, names: &[&str]) -> Result<T> {
        self.get(names)?.ok_or_else(|| {
            let other = match names.get(1) {
                Some(other) => format!(" (or `{}`)", other),
                None => String::new(),
            };
            let name = names.first().copied().unwrap_or("");
            let misspelt = self.given.iter().find(|(given, _)| names.iter().any(|name| is_near(name, given)));
            let hint = match misspelt {
                Some((given, _)) => format!("; is `{}` meant for it?", given),
                None => String::new(),
            };
            Error::never(format!("property `{}`{} is missing: it must be {}{}", name, other, T::expects(), hint))
        })
    }

    /// An error for the first property that nobody asked for.
    pub fn finish(&self) -> Result<()> {
        let unknown = match self.given.first() {
            Some((unknown, _)) => *unknown,
            None => return Ok(()),
        };
        let nearest = self.known.iter().min_by_key(|known| distance(known, unknown));
        let hint = match nearest {
            Some(nearest) if distance(nearest, unknown) <= 1 + unknown.len() / 4 => {
                format!("; did you mean `{}`?", nearest)
            }
            Some(_) => format!("; known are `{}`", self.known.join("`, `")),
            None => "; it takes none".to_owned(),
        };
        Err(Error::never(format!("property `{}` is not known{}", unknown, hint)))
    }
}

/// Whether a person may have meant the one by writing the other.
fn is_near(known: &str, given: &str) -> bool {
    distance(known, given) <= 1 + given.len() / 4
}

/// Number of letters to change, add, remove or swap with a neighbour, without regard to case.
fn distance(one: &str, two: &str) -> usize {
    let one: Vec<char> = one.to_lowercase().chars().collect();
    let two: Vec<char> = two.to_lowercase().chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=two.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=two.len() {
            let changed = rows[i - 1][j - 1] + usize::from(one[i - 1] != two[j - 1]);
            let mut best = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == two[j - 2] && one[i - 2] == two[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][two.len()]
}

/// A type that a property can have.
pub trait PropertyType: Sized {
    /// What is expected, in words: `an integer`.
    fn expects() -> String;
    /// Reads it; the error says what was expected and what was found.
    fn read(value: Value<'_>) -> std::result::Result<Self, String>;
    /// The value as it is documented.
    fn show(&self) -> Owned;
}

fn wrong<T: PropertyType>(found: Value<'_>) -> String {
    let shown = match found {
        Value::Text(text) if text.len() <= 40 => format!("the text `{}`", text),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => format!("`{}`", found),
        other => other.kind().to_owned(),
    };
    format!("expected {}, found {}", T::expects(), shown)
}

impl PropertyType for String {
    fn expects() -> String {
        "a text".to_owned()
    }

    fn read(value: Value<'_>) -> std::result::Result<String, String> {
        value.as_text().map(str::to_owned).ok_or_else(|| wrong::<String>(value))
    }

    fn show(&self) -> Owned {
        Owned::Text(self.clone())
    }
}

impl PropertyType for bool {
    fn expects() -> String {
        "true or false".to_owned()
    }

    fn read(value: Value<'_>) -> std::result::Result<bool, String> {
        match value {
            Value::Bool(value) => Ok(value),
            other => Err(wrong::<bool>(other)),
        }
    }

    fn show(&self) -> Owned {
        Owned::Bool(*self)
    }
}

impl PropertyType for f64 {
    fn expects() -> String {
        "a number".to_owned()
    }

    fn read(value: Value<'_>) -> std::result::Result<f64, String> {
        value.as_float().ok_or_else(|| wrong::<f64>(value))
    }

    fn show(&self) -> Owned {
        Owned::Float(*self)
    }
}

impl PropertyType for i64 {
    fn expects() -> String {
        "an integer".to_owned()
    }

    fn read(value: Value<'_>) -> std::result::Result<i64, String> {
        value.as_int().ok_or_else(|| wrong::<i64>(value))
    }

    fn show(&self) -> Owned {
        Owned::Int(*self)
    }
}

macro_rules! ranged {
    ($($int:ty)*) => {$(
        impl PropertyType for $int {
            fn expects() -> String {
                format!("an integer from {} to {}", <$int>::MIN, <$int>::MAX)
            }

            fn read(value: Value<'_>) -> std::result::Result<$int, String> {
                use std::convert::TryFrom;
                value.as_int().and_then(|int| <$int>::try_from(int).ok()).ok_or_else(|| wrong::<$int>(value))
            }

            fn show(&self) -> Owned {
                Owned::Int(i64::from(*self))
            }
        }
    )*};
}

ranged!(u8 u16 u32 i32);

impl PropertyType for Duration {
    fn expects() -> String {
        "a duration (milliseconds, or a text such as `1m30s`)".to_owned()
    }

    fn read(value: Value<'_>) -> std::result::Result<Duration, String> {
        let read = match value {
            Value::Text(text) => duration(text),
            other => other
                .as_float()
                .filter(|millis| (0.0..=1e15).contains(millis))
                .map(|ms| Duration::from_secs_f64(ms / 1e3)),
        };
        read.ok_or_else(|| wrong::<Duration>(value))
    }

    fn show(&self) -> Owned {
        Owned::Int(self.as_millis() as i64)
    }
}

/// `1h30m`, `1.5s`, `100ms`; each number has a unit.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..unit_at].parse().ok()?;
        let after = &rest[unit_at..];
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        seconds += number
            * match &after[..unit_end] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &after[unit_end..];
    }
    if seconds > 1e12 {
        return None;
    }
    Some(Duration::from_secs_f64(seconds))
}

impl<T: PropertyType> PropertyType for Option<T> {
    fn expects() -> String {
        T::expects()
    }

    fn read(value: Value<'_>) -> std::result::Result<Option<T>, String> {
        T::read(value).map(Some)
    }

    fn show(&self) -> Owned {
        self.as_ref().map_or(Owned::Null, T::show)
    }
}

impl<T: PropertyType> PropertyType for Vec<T> {
    fn expects() -> String {
        format!("a list, each element {}", T::expects())
    }

    fn read(value: Value<'_>) -> std::result::Result<Vec<T>, String> {
        match value {
            Value::Array(elements) => elements
                .iter()
                .enumerate()
                .map(|(n, element)| T::read(element).map_err(|wrong| format!("element {}: {}", n, wrong)))
                .collect(),
            other => Err(wrong::<Vec<T>>(other)),
        }
    }

    fn show(&self) -> Owned {
        Owned::Array(self.iter().map(T::show).collect())
    }
}

impl PropertyType for Record {
    fn expects() -> String {
        "an object".to_owned()
    }

    fn read(value: Value<'_>) -> std::result::Result<Record, String> {
        match value.to_owned() {
            Owned::Object(record) => Ok(record),
            _ => Err(wrong::<Record>(value)),
        }
    }

    fn show(&self) -> Owned {
        Owned::Object(self.clone())
    }
}

impl PropertyType for Owned {
    fn expects() -> String {
        "any value".to_owned()
    }

    fn read(value: Value<'_>) -> std::result::Result<Owned, String> {
        Ok(value.to_owned())
    }

    fn show(&self) -> Owned {
        self.clone()
    }
}

/// `row_kind_field` is written `rowKindField`.
#[doc(hidden)]
pub fn camel(field: &str) -> String {
    let mut name = String::with_capacity(field.len());
    for (n, part) in field.split('_').enumerate() {
        let mut letters = part.chars();
        match letters.next() {
            Some(first) if n > 0 => name.extend(first.to_uppercase()),
            Some(first) => name.push(first),
            None => {}
        }
        name.push_str(letters.as_str());
    }
    name
}

/// Declares a struct that is decoded from properties: names, types, defaults and documentation stand in one place.
///
/// A field without a default must be given. `row_kind_field` is the property `rowKindField`; other names follow `as`.
/// `#[secret]` behind the documentation hides the value wherever properties are shown.
///
/// ```
/// kuiper_plugin::properties! {
///     /// Where rows go.
///     #[derive(Debug)]
///     pub struct Options {
///         /// Address of the server.
///         url: String as "url" | "dburl",
///         /// What to log in with.
///         #[secret]
///         password: String = String::new(),
///         /// Columns to write; all where none is named.
///         fields: Vec<String> = Vec::new(),
///         /// Column that says what to do with a row.
///         row_kind_field: Option<String> = None,
///     }
/// }
/// ```
#[macro_export]
macro_rules! properties {
    (
        $(#[$outer:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[secret $($flag:ident)?])?
                $fvis:vis $field:ident : $type:ty $(as $($key:literal)|+)? $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[$outer])*
        $vis struct $name {
            $( $(#[doc = $doc])* $fvis $field: $type, )*
        }

        impl $crate::Properties for $name {
            fn decode(props: &mut $crate::Props<'_>) -> $crate::Result<Self> {
                Ok($name {
                    $( $field: {
                        let camel = $crate::props::camel(stringify!($field));
                        let names: &[&str] = $crate::properties!(@names camel $($($key)|+)?);
                        $crate::properties!(@read props, names $(, $default)?)
                    }, )*
                })
            }

            fn schema() -> Vec<$crate::Property> {
                vec![
                    $( {
                        let camel = $crate::props::camel(stringify!($field));
                        let names: &[&str] = $crate::properties!(@names camel $($($key)|+)?);
                        let about: &[&str] = &[$($doc),*];
                        let default: Option<$type> = $crate::properties!(@default $($default)?);
                        let secret: &[&str] = &[$(stringify!(secret $($flag)?))?];
                        $crate::Property {
                            name: names[0].to_owned(),
                            about: about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "),
                            expects: <$type as $crate::PropertyType>::expects(),
                            default: default.as_ref().map(<$type as $crate::PropertyType>::show),
                            secret: !secret.is_empty(),
                        }
                    }, )*
                ]
            }
        }
    };
    (@names $camel:ident) => { &[&$camel] };
    (@names $camel:ident $($key:literal)|+) => { { let _ = &$camel; &[$($key),+] } };
    (@read $props:ident, $names:ident) => { $props.required($names)? };
    (@read $props:ident, $names:ident, $default:expr) => {
        match $props.get($names)? {
            Some(given) => given,
            None => $default,
        }
    };
    (@default) => { None };
    (@default $default:expr) => { Some($default) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Arena;

    crate::properties! {
        /// Options of the tests.
        #[derive(Debug, PartialEq)]
        struct Options {
            /// Where to go.
            url: String as "url" | "dburl",
            /// How
            /// often.
            max_tries: u8 = 3,
            /// What to log in with.
            #[secret]
            password: String = String::new(),
            every: Duration = Duration::from_secs(1),
            fields: Vec<String> = Vec::new(),
            key_field: Option<String> = None,
        }
    }

    fn decode(given: Record) -> Result<Options> {
        let given = Owned::Object(given);
        let mut arena = Arena::default();
        let lent = arena.lend(&given);
        let mut props = Props::new(Value::lent(&lent));
        let options = Options::decode(&mut props)?;
        props.finish()?;
        Ok(options)
    }

    #[test]
    fn decodes_with_defaults_other_names_and_any_case() {
        let options = decode(Record::new().with("dbURL", "x").with("maxtries", 5.0).with("every", "1m30s")).unwrap();
        assert_eq!((options.url.as_str(), options.max_tries, options.every.as_secs()), ("x", 5, 90));
        assert_eq!((options.fields, options.key_field), (vec![], None));
    }

    #[test]
    fn every_complaint_names_the_property() {
        let url = || Record::new().with("url", "x");
        for (given, text) in [
            (Record::new(), "property `url` (or `dburl`) is missing: it must be a text"),
            (
                Record::new().with("urk", 7),
                "property `url` (or `dburl`) is missing: it must be a text; is `urk` meant for it?",
            ),
            (Record::new().with("url", 7), "property `url`: expected a text, found `7`"),
            (url().with("maxTries", 256), "property `maxTries`: expected an integer from 0 to 255, found `256`"),
            (url().with("maxTries", "5"), "property `maxTries`: expected an integer from 0 to 255, found the text `5`"),
            (url().with("fields", vec![Owned::Int(1)]), "property `fields`: element 0: expected a text, found `1`"),
            (
                url().with("every", "1 fortnight"),
                "property `every`: expected a duration (milliseconds, or a text such as `1m30s`), found the text `1 fortnight`",
            ),
            (url().with("feilds", 1), "property `feilds` is not known; did you mean `fields`?"),
            (
                url().with("whatever", 1),
                "property `whatever` is not known; known are `url`, `dburl`, `maxTries`, `password`, `every`, `fields`, `keyField`",
            ),
        ] {
            assert_eq!(decode(given).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn the_schema_has_docs_and_defaults() {
        let schema = Options::schema();
        assert_eq!((schema[0].name.as_str(), &schema[0].default), ("url", &None));
        assert_eq!((schema[1].about.as_str(), &schema[1].default), ("How often.", &Some(Owned::Int(3))));
        assert!(schema[2].secret && !schema[1].secret);
    }
}
