//! Definitions: the streams and tables that rules read, and the configuration keys of their connectors.
//!
//! - A [`Definition`] is a parsed `CREATE STREAM` or `CREATE TABLE`, with typed options and its text.
//! - The [`Catalog`] holds all of them by name; streams and tables share the names. What is in it is in the store too,
//!   unless it was made with `TEMP`.
//! - A [`Command`] is any statement about definitions. Who asks for a drop has to know that no rule needs the name:
//!   the catalog knows no rules.
//!
//! Answers and their wording are those that clients of eKuiper read.

mod confs;
mod definition;
mod describe;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value as Json, json};

use crate::diag::{self, Diagnostic, Fault};
use crate::sql::{self, Statement};
use crate::store::{Bucket, Store};

pub use crate::sql::What;
pub use confs::{ConfKeys, Properties};
pub use definition::{Definition, Options, TableKind, check};

/// Why a statement about definitions was not followed.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// The text cannot be understood, or says what cannot be.
    Text { findings: Vec<Diagnostic>, text: String },
    /// There is no such definition.
    NotFound { what: What, name: String },
    /// It does not go with what is there.
    Conflict(String),
    /// The store failed.
    Storage(Fault),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Text { findings, text } => f.write_str(&diag::render_all(findings, "sql", text)),
            Refused::NotFound { what, name } => write!(f, "{} {name} is not found", word(*what)),
            Refused::Conflict(text) => f.write_str(text),
            Refused::Storage(fault) => fault.fmt(f),
        }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Refused::Storage(fault)
    }
}

/// `stream` or `table`, as messages write it.
pub fn word(what: What) -> &'static str {
    match what {
        What::Stream => "stream",
        What::Table => "table",
    }
}

fn title(what: What) -> &'static str {
    match what {
        What::Stream => "Stream",
        What::Table => "Table",
    }
}

fn bucket(what: What) -> Bucket {
    match what {
        What::Stream => Bucket::STREAMS,
        What::Table => Bucket::TABLES,
    }
}

/// A statement about definitions.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Create(Box<Definition>),
    Show(What),
    Describe(What, String),
    Explain(What, String),
    Drop(What, String),
}

impl Command {
    /// Reads one statement.
    pub fn parse(text: &str) -> Result<Command, Refused> {
        let refuse = |findings| Refused::Text { findings, text: text.to_owned() };
        Ok(match sql::parse(text).map_err(refuse)? {
            Statement::Create(create) => Command::Create(Box::new(Definition::new(*create, text).map_err(refuse)?)),
            Statement::Show(what) => Command::Show(what),
            Statement::Describe(what, name) => Command::Describe(what, name.name.into()),
            Statement::Explain(what, name) => Command::Explain(what, name.name.into()),
            Statement::Drop(what, name) => Command::Drop(what, name.name.into()),
            Statement::Select(select) => {
                let found = Diagnostic::error("K0801", "a SELECT belongs into a rule, not among streams and tables")
                    .at(select.span)
                    .help("create a rule with it: POST /rules or `kuiper rule create`");
                return Err(refuse(vec![found]));
            }
        })
    }
}

/// All definitions.
pub struct Catalog {
    store: Arc<Store>,
    definitions: RwLock<BTreeMap<String, Arc<Definition>>>,
    conf_keys: ConfKeys,
}

impl Catalog {
    /// Loads what the store has. A stored statement that cannot be read is reported beside the catalog and left where
    /// it is.
    pub fn open(store: Arc<Store>) -> Result<(Catalog, Vec<String>), Fault> {
        let mut definitions = BTreeMap::new();
        let mut broken = Vec::new();
        for what in [What::Stream, What::Table] {
            for (name, record) in store.all(bucket(what))? {
                let statement = serde_json::from_str::<Json>(&record)
                    .ok()
                    .and_then(|record| record["statement"].as_str().map(str::to_owned))
                    .unwrap_or_default();
                match Definition::parse(&statement) {
                    Ok(definition) => {
                        definitions.insert(name, Arc::new(definition));
                    }
                    Err(refused) => {
                        broken.push(format!("the stored {} `{name}` cannot be read: {refused}", word(what)));
                    }
                }
            }
        }
        let conf_keys = ConfKeys::open(store.clone())?;
        Ok((Catalog { store, definitions: RwLock::new(definitions), conf_keys }, broken))
    }

    /// Configuration keys that were stored by a user.
    pub fn conf_keys(&self) -> &ConfKeys {
        &self.conf_keys
    }

    /// The stream or table of that name.
    pub fn find(&self, name: &str) -> Option<Arc<Definition>> {
        self.read().get(name).cloned()
    }

    /// The same, of that kind and no other.
    pub fn get(&self, what: What, name: &str) -> Result<Arc<Definition>, Refused> {
        let found = self.find(name).filter(|definition| definition.what == what);
        found.ok_or_else(|| Refused::NotFound { what, name: name.to_owned() })
    }

    /// All of one kind, sorted by name.
    pub fn all(&self, what: What) -> Vec<Arc<Definition>> {
        self.read().values().filter(|definition| definition.what == what).cloned().collect()
    }

    /// All names of both kinds, for "did you mean".
    pub fn names(&self) -> Vec<String> {
        self.read().keys().cloned().collect()
    }

    /// Follows a command and answers in eKuiper's words.
    pub fn run(&self, command: Command) -> Result<String, Refused> {
        let missing = |action: &str, what, name: &str, between: &str| {
            Refused::Conflict(format!("{action} {} fails{between} {name} is not found.", word(what)))
        };
        match command {
            Command::Create(definition) => self.create(*definition),
            Command::Show(what) => {
                let names: Vec<String> = self.all(what).iter().map(|one| one.name.to_string()).collect();
                if names.is_empty() {
                    return Ok(format!("No {} definitions are found.", word(what)));
                }
                Ok(names.join("\n"))
            }
            Command::Describe(what, name) => match self.get(what, &name) {
                Ok(definition) => Ok(definition.describe()),
                Err(_) => Err(missing("Describe", what, &name, ",")),
            },
            Command::Explain(what, name) => match self.get(what, &name) {
                Ok(_) => Ok("TO BE SUPPORTED".to_owned()),
                Err(_) => Err(missing("Explain", what, &name, ",")),
            },
            Command::Drop(what, name) => match self.drop(what, &name) {
                Err(Refused::NotFound { .. }) => Err(missing("Drop", what, &name, ":")),
                other => other,
            },
        }
    }

    /// Adds a definition; its name must be free.
    pub fn create(&self, definition: Definition) -> Result<String, Refused> {
        let mut definitions = self.definitions.write().unwrap_or_else(PoisonError::into_inner);
        let what = definition.what;
        if let Some(there) = definitions.get(definition.name.as_str()) {
            let kind = if there.what == what { String::new() } else { format!(" as a {}", word(there.what)) };
            return Err(Refused::Conflict(format!(
                "Create {} fails: Item {} already exists{kind}.",
                word(what),
                definition.name
            )));
        }
        let answer = format!("{} {} is created.", title(what), definition.name);
        self.save(&mut definitions, definition)?;
        Ok(answer)
    }

    /// Puts a definition in the place of the one of that name, or adds it.
    pub fn replace(&self, what: What, name: &str, definition: Definition) -> Result<String, Refused> {
        let mut definitions = self.definitions.write().unwrap_or_else(PoisonError::into_inner);
        let refuse = |why: &str| Err(Refused::Conflict(format!("Replace {name} fails: {why}.")));
        if definition.what != what {
            return Err(Refused::NotFound { what, name: definition.name.to_string() });
        }
        if definition.name != name {
            return refuse(&format!("the sql statement must update the {name} source"));
        }
        if definition.options.temp {
            return refuse("cannot replace with temp option");
        }
        if let Some(old) = definitions.get(name) {
            if old.what != what {
                return Err(Refused::NotFound { what, name: name.to_owned() });
            }
            if old.options.shared != definition.options.shared {
                return refuse("do not support to change stream SHARED option");
            }
            let (was, is) = (&old.options.version, &definition.options.version);
            if !(was.is_empty() && is.is_empty()) && is <= was {
                return Err(Refused::Conflict(format!(
                    "source {name} already exists with version ({was}), new version ({is}) is lower"
                )));
            }
        }
        self.save(&mut definitions, definition)?;
        Ok(format!("{} {name} is replaced.", title(what)))
    }

    /// Takes a definition out.
    pub fn drop(&self, what: What, name: &str) -> Result<String, Refused> {
        let mut definitions = self.definitions.write().unwrap_or_else(PoisonError::into_inner);
        if definitions.get(name).is_none_or(|definition| definition.what != what) {
            return Err(Refused::NotFound { what, name: name.to_owned() });
        }
        self.store.remove(bucket(what), name)?;
        definitions.remove(name);
        Ok(format!("{} {name} is dropped.", title(what)))
    }

    fn save(&self, definitions: &mut BTreeMap<String, Arc<Definition>>, definition: Definition) -> Result<(), Refused> {
        if !definition.options.temp {
            let record = json!({
                "streamType": if definition.what == What::Stream { 0 } else { 1 },
                "streamKind": definition.options.kind,
                "statement": definition.statement,
            });
            self.store.put(bucket(definition.what), &definition.name, &record.to_string())?;
        }
        definitions.insert(definition.name.to_string(), Arc::new(definition));
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Definition>>> {
        self.definitions.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn catalog() -> (tempfile::TempDir, Catalog) {
        let home = tempfile::tempdir().unwrap();
        let catalog = reopen(&home);
        (home, catalog)
    }

    fn reopen(home: &tempfile::TempDir) -> Catalog {
        let (catalog, broken) = Catalog::open(Arc::new(Store::open(home.path()).unwrap())).unwrap();
        assert!(broken.is_empty(), "{broken:?}");
        catalog
    }

    fn run(catalog: &Catalog, text: &str) -> Result<String, String> {
        Command::parse(text).and_then(|command| catalog.run(command)).map_err(|refused| refused.to_string())
    }

    #[test]
    fn answers_are_those_that_clients_read() {
        let (home, catalog) = catalog();
        assert_eq!(run(&catalog, "SHOW STREAMS").unwrap(), "No stream definitions are found.");
        assert_eq!(run(&catalog, "show tables").unwrap(), "No table definitions are found.");
        let create = r#"CREATE STREAM demo (id BIGINT) WITH (DATASOURCE="t", FORMAT="JSON")"#;
        assert_eq!(run(&catalog, create).unwrap(), "Stream demo is created.");
        assert_eq!(run(&catalog, create).unwrap_err(), "Create stream fails: Item demo already exists.");
        let table = r#"CREATE TABLE demo () WITH (DATASOURCE="t.json", TYPE="file")"#;
        assert_eq!(run(&catalog, table).unwrap_err(), "Create table fails: Item demo already exists as a stream.");
        assert_eq!(run(&catalog, "CREATE STREAM b () WITH ()").unwrap(), "Stream b is created.");
        assert_eq!(run(&catalog, "SHOW STREAMS").unwrap(), "b\ndemo");
        assert_eq!(run(&catalog, "EXPLAIN STREAM demo").unwrap(), "TO BE SUPPORTED");
        assert_eq!(run(&catalog, "EXPLAIN STREAM no").unwrap_err(), "Explain stream fails, no is not found.");
        assert_eq!(run(&catalog, "DESCRIBE STREAM no").unwrap_err(), "Describe stream fails, no is not found.");
        assert_eq!(run(&catalog, "DROP STREAM no").unwrap_err(), "Drop stream fails: no is not found.");
        assert_eq!(run(&catalog, "DROP TABLE demo").unwrap_err(), "Drop table fails: demo is not found.");
        drop(catalog);
        let catalog = reopen(&home);
        assert_eq!(run(&catalog, "SHOW STREAMS").unwrap(), "b\ndemo");
        assert_eq!(run(&catalog, "DROP STREAM demo").unwrap(), "Stream demo is dropped.");
        drop(catalog);
        assert_eq!(run(&reopen(&home), "SHOW STREAMS").unwrap(), "b");
    }

    #[test]
    fn a_select_is_no_definition() {
        let (_home, catalog) = catalog();
        let refused = run(&catalog, "SELECT * FROM demo").unwrap_err();
        assert!(refused.contains("belongs into a rule") && refused.contains("^^^"), "{refused}");
    }

    #[test]
    fn a_temporary_stream_is_not_kept() {
        let (home, catalog) = catalog();
        run(&catalog, r#"CREATE STREAM t () WITH (TEMP="true")"#).unwrap();
        assert!(catalog.find("t").is_some());
        drop(catalog);
        assert!(reopen(&home).find("t").is_none());
    }

    #[test]
    fn replacing_heeds_name_kind_sharing_and_version() {
        let (_home, catalog) = catalog();
        let put = |name: &str, text: &str| {
            Definition::parse(text)
                .and_then(|definition| catalog.replace(What::Stream, name, definition))
                .map_err(|refused| refused.to_string())
        };
        assert_eq!(put("d", "CREATE STREAM d () WITH ()").unwrap(), "Stream d is replaced.");
        assert_eq!(put("d", r#"CREATE STREAM d () WITH (VERSION="1")"#).unwrap(), "Stream d is replaced.");
        assert_eq!(
            put("d", r#"CREATE STREAM d () WITH (VERSION="1")"#).unwrap_err(),
            "source d already exists with version (1), new version (1) is lower"
        );
        assert_eq!(
            put("d", "CREATE STREAM d () WITH ()").unwrap_err(),
            "source d already exists with version (1), new version () is lower"
        );
        assert_eq!(
            put("d", r#"CREATE STREAM d () WITH (SHARED="true", VERSION="2")"#).unwrap_err(),
            "Replace d fails: do not support to change stream SHARED option."
        );
        assert_eq!(
            put("d", "CREATE STREAM e () WITH ()").unwrap_err(),
            "Replace d fails: the sql statement must update the d source."
        );
        assert_eq!(
            put("d", r#"CREATE STREAM d () WITH (TEMP="true")"#).unwrap_err(),
            "Replace d fails: cannot replace with temp option."
        );
        assert_eq!(put("d", "CREATE TABLE d () WITH ()").unwrap_err(), "stream d is not found");
    }
}
