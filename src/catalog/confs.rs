use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Map, Value as Json};

use crate::diag::{Fault, Result};
use crate::store::{Bucket, Store};

/// Property to value.
pub type Properties = Map<String, Json>;

/// Configuration keys that a user stored, by kind (`sources`, `sinks`), connector and key.
pub struct ConfKeys {
    store: Arc<Store>,
    keys: RwLock<BTreeMap<String, Properties>>,
}

impl ConfKeys {
    pub(super) fn open(store: Arc<Store>) -> Result<ConfKeys> {
        let mut keys = BTreeMap::new();
        for (key, text) in store.all(Bucket::CONF_KEYS)? {
            let properties = serde_json::from_str(&text).map_err(|error| {
                Fault::setup(format!("the stored configuration key `{key}` cannot be read: {error}"))
            })?;
            keys.insert(key, properties);
        }
        Ok(ConfKeys { store, keys: RwLock::new(keys) })
    }

    /// Stores a key, over an older one.
    pub fn put(&self, kind: &str, connector: &str, key: &str, mut properties: Properties) -> Result<()> {
        with_units(&mut properties);
        let path = format!("{kind}.{connector}.{key}");
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        self.store.put(Bucket::CONF_KEYS, &path, &Json::Object(properties.clone()).to_string())?;
        keys.insert(path, properties);
        Ok(())
    }

    /// Takes a key out; false when no one stored it.
    pub fn remove(&self, kind: &str, connector: &str, key: &str) -> Result<bool> {
        let path = format!("{kind}.{connector}.{key}");
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let was_there = self.store.remove(Bucket::CONF_KEYS, &path)?;
        keys.remove(&path);
        Ok(was_there)
    }

    /// The stored keys of one connector.
    pub fn of(&self, kind: &str, connector: &str) -> BTreeMap<String, Properties> {
        let prefix = format!("{kind}.{connector}.");
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.range(prefix.clone()..)
            .map_while(|(path, properties)| Some((path.strip_prefix(&prefix)?.to_owned(), properties.clone())))
            .collect()
    }
}

/// Spans that clients write as a number of milliseconds get their unit, as eKuiper does when it stores them.
fn with_units(properties: &mut Properties) {
    for (name, value) in properties {
        match (name.as_str(), value) {
            ("timeout" | "expiration" | "interval" | "cacheTtl", value) if value.is_i64() || value.is_u64() => {
                *value = Json::from(format!("{value}ms"));
            }
            ("lookup", Json::Object(lookup)) => {
                if let Some(ttl) = lookup.get_mut("cacheTtl").filter(|ttl| ttl.is_i64() || ttl.is_u64()) {
                    *ttl = Json::from(format!("{ttl}ms"));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_kept_by_connector() {
        let home = tempfile::tempdir().unwrap();
        let keys = ConfKeys::open(Arc::new(Store::open(home.path()).unwrap())).unwrap();
        let props = |value: Json| value.as_object().unwrap().clone();
        keys.put("sources", "mqtt", "a", props(json!({"qos": 1}))).unwrap();
        keys.put("sources", "mqtt", "b", props(json!({"interval": 10, "lookup": {"cacheTtl": 5}}))).unwrap();
        keys.put("sources", "mqtt2", "c", props(json!({"qos": 2}))).unwrap();
        keys.put("sinks", "mqtt", "d", props(json!({"qos": 0}))).unwrap();
        drop(keys);
        let keys = ConfKeys::open(Arc::new(Store::open(home.path()).unwrap())).unwrap();
        assert_eq!(
            json!(keys.of("sources", "mqtt")),
            json!({"a": {"qos": 1}, "b": {"interval": "10ms", "lookup": {"cacheTtl": "5ms"}}})
        );
        assert!(keys.remove("sources", "mqtt", "a").unwrap());
        assert!(!keys.remove("sources", "mqtt", "a").unwrap());
        assert_eq!(keys.of("sources", "mqtt").len(), 1);
        assert_eq!(json!(keys.of("sinks", "mqtt")), json!({"d": {"qos": 0}}));
    }
}
