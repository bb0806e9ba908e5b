//! A library that is mapped, and the table of what it offers. It is never unmapped, so that all of this lives as long as
//! the process.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use kuiper_plugin::abi;
use kuiper_plugin::abi::kind;
use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};
use serde_json::{Map, Value as Json, json};

use super::Exported;
use super::deaths;
use super::function::Site;
use super::home::Home;
use super::isolated::{self, Isolation, Kept};
use super::regular::whole_path;
use super::worker::Worker;

/// A mapped library.
pub struct Library {
    pub home: &'static Home,
    pub symbols: Vec<Symbol>,
    /// Instances that serve all rules, by the name of their symbol.
    singletons: Mutex<HashMap<&'static str, Arc<Worker>>>,
    /// The process that it runs in, where that is not this one.
    pub isolated: Option<Kept>,
    sites: Mutex<HashMap<&'static str, Arc<Mutex<Site>>>>,
}

/// One thing that it offers. All of it is static, as the table is.
#[derive(Clone, Copy)]
pub struct Symbol {
    pub name: &'static str,
    pub about: &'static str,
    pub signature: &'static str,
    pub kind: u32,
    pub flags: u32,
    pub singleton: bool,
    /// Its instances live in another process.
    pub isolated: bool,
    pub data: *mut std::ffi::c_void,
    pub table: *const std::ffi::c_void,
    pub properties: &'static [Property],
    pub examples: &'static [(&'static str, &'static str)],
    /// Of the state that it writes; 0: nothing is said of it.
    pub state_version: u32,
    /// It can read state from this version to its own.
    pub state_oldest: u32,
    /// Of its library.
    pub home: &'static Home,
}

// SAFETY: the contract: `table` is read-only and static, `data` is only handed back to the guest's `create`, which may
// be called by any thread.
unsafe impl Send for Symbol {}
// SAFETY: as above.
unsafe impl Sync for Symbol {}

/// A property that a source or sink knows.
pub struct Property {
    pub name: &'static str,
    pub about: &'static str,
    pub expects: &'static str,
    pub required: bool,
    pub secret: bool,
    /// It may hold a template.
    pub dynamic: bool,
    /// JSON; empty where there is none.
    pub default: &'static str,
}

impl Library {
    /// Maps a library that was checked, and reads its table. The file must never be written to again.
    pub fn load(path: &Path) -> Result<Library, String> {
        // The loader would look for a bare name in folders of its own.
        let path = whole_path(path).map_err(|wrong| format!("it cannot be found: {wrong}"))?;
        let home: &'static Home = Box::leak(Box::new(Home::here(deaths::library(&path))));
        let mark = home.mark("");
        let _within = mark.enter();
        // SAFETY: what the library runs when it is mapped is the author's; the file was found to be a plugin of ours.
        let handle = unsafe { Handle::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
        let handle = handle.map_err(|error| format!("it cannot be loaded: {}", cause(&error)))?;
        // SAFETY: the name belongs to a function of this type, as the marker that was found says.
        let entry = unsafe { handle.get::<abi::Entry>(abi::ENTRY_SYMBOL.as_bytes()).map(|symbol| *symbol) };
        let entry = entry.map_err(|error| format!("it has no `{}`: {}", abi::ENTRY_SYMBOL, cause(&error)))?;
        // Threads and thread-local values of a guest outlive every use of it: what is mapped stays mapped.
        std::mem::forget(handle);
        // SAFETY: the contract: it returns a static table, or null where making it failed.
        let plugin = unsafe { entry().as_ref() }.ok_or("its table is missing: it failed while making it")?;
        if plugin.abi >> 16 != u32::from(abi::MAJOR) {
            return Err(format!("its table is of version {} of the plugin interface", plugin.abi >> 16));
        }
        // SAFETY: the contract: `count` pointers to static symbols.
        let symbols = unsafe { array(plugin.symbols, plugin.count) };
        // SAFETY: as above.
        let symbols = symbols.iter().map(|symbol| unsafe { Symbol::read(*symbol, home) }).collect::<Result<_, _>>()?;
        Ok(Library { home, symbols, singletons: Mutex::default(), sites: Mutex::default(), isolated: None })
    }

    /// Has a process of its own map a library that was checked. The file must never be written to again.
    pub fn isolated(plugin: &str, path: &Path, settings: &Arc<Isolation>) -> Result<Library, String> {
        let home: &'static Home = Box::leak(Box::default());
        let path = whole_path(path).map_err(|wrong| format!("it cannot be found: {wrong}"))?;
        let (keeper, symbols) = isolated::load(plugin, &path, settings, home)?;
        let isolated = Some(Kept(keeper));
        Ok(Library { home, symbols, singletons: Mutex::default(), sites: Mutex::default(), isolated })
    }

    /// The symbol of a kind and name.
    pub fn symbol(&self, kind: u32, name: &str) -> Option<Symbol> {
        self.symbols.iter().find(|symbol| symbol.kind == kind && symbol.name == name).copied()
    }

    /// A function by the name that it was declared with; the first letter may be in either case, as symbols of eKuiper
    /// are in upper case.
    pub fn function(&self, name: &str) -> Option<Symbol> {
        let same = |symbol: &&Symbol| super::name::canonical(symbol.name) == super::name::canonical(name);
        self.symbol(kind::FUNCTION, name).or_else(|| self.functions().find(|symbol| same(&symbol)))
    }

    pub fn functions(&self) -> impl Iterator<Item = Symbol> {
        self.symbols.iter().filter(|symbol| symbol.kind == kind::FUNCTION).copied()
    }

    /// What it exports, as in sentences.
    pub fn listed(&self) -> String {
        super::name::listed(self.symbols.iter().map(|symbol| (symbol.what(), symbol.name)))
    }

    /// The worker of a singleton, made by `start` when it is first used.
    pub fn singleton(&self, name: &'static str, start: impl FnOnce() -> Worker) -> Arc<Worker> {
        let mut all = self.singletons.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name).or_insert_with(|| Arc::new(start())).clone()
    }

    /// The same for functions.
    pub fn site(&self, name: &'static str, new: impl FnOnce() -> Arc<Mutex<Site>>) -> Arc<Mutex<Site>> {
        let mut all = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name).or_insert_with(new).clone()
    }

    /// Another version has taken its place: what serves all rules ends with the last of them.
    pub fn retire(&self) {
        let workers = std::mem::take(&mut *self.singletons.lock().unwrap_or_else(PoisonError::into_inner));
        let sites = std::mem::take(&mut *self.sites.lock().unwrap_or_else(PoisonError::into_inner));
        drop((workers, sites));
        if let Some(kept) = &self.isolated {
            kept.0.retire();
        }
    }
}

fn cause(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| source.to_string())
}

impl Symbol {
    /// # Safety
    /// `symbol` leads to a static symbol of the contract.
    unsafe fn read(symbol: *const abi::Symbol, home: &'static Home) -> Result<Symbol, String> {
        if symbol.is_null() {
            return Err("a symbol of its table is null".into());
        }
        // SAFETY: see above.
        let size = unsafe { (*symbol).size } as usize;
        if size < std::mem::offset_of!(abi::Symbol, state_version) {
            return Err("a symbol of its table is too short".into());
        }
        let mut whole = MaybeUninit::<abi::Symbol>::zeroed();
        // SAFETY: as many bytes are there; zero is a value of each field that an older symbol does not have.
        let symbol = unsafe {
            let bytes = size.min(std::mem::size_of::<abi::Symbol>());
            std::ptr::copy_nonoverlapping(symbol.cast::<u8>(), whole.as_mut_ptr().cast::<u8>(), bytes);
            whole.assume_init()
        };
        // SAFETY: the contract: texts and arrays of the table are static.
        let (name, about, signature) = unsafe { (text(symbol.name)?, text(symbol.about)?, text(symbol.signature)?) };
        if symbol.table.is_null() {
            return Err(format!("`{name}` has no functions"));
        }
        // SAFETY: as above.
        let properties = unsafe { array(symbol.properties, symbol.properties_count) };
        // SAFETY: as above.
        let properties = properties.iter().map(|property| unsafe { Property::read(*property) });
        // SAFETY: as above.
        let examples = unsafe { array(symbol.examples, symbol.examples_count) };
        // SAFETY: as above.
        let examples = examples.iter().map(|one| unsafe { Ok((text(one.call)?, text(one.result)?)) });
        Ok(Symbol {
            name,
            about,
            signature,
            kind: symbol.kind,
            flags: symbol.flags,
            singleton: symbol.export == kind::SINGLETON,
            isolated: false,
            data: symbol.data,
            table: symbol.table,
            properties: properties.collect::<Result<Vec<_>, String>>()?.leak(),
            examples: examples.collect::<Result<Vec<_>, String>>()?.leak(),
            state_version: symbol.state_version,
            state_oldest: symbol.state_oldest,
            home,
        })
    }

    /// As in sentences: `source`.
    pub fn what(&self) -> &'static str {
        match self.kind {
            kind::SOURCE => "source",
            kind::SINK => "sink",
            kind::LOOKUP => "lookup",
            kind::FUNCTION => "function",
            _ => "symbol of a later version",
        }
    }

    pub fn exported(&self) -> Exported {
        Exported {
            name: self.name.into(),
            what: self.what(),
            about: self.about.into(),
            signature: self.signature.into(),
            schema: self.schema(),
            state: (self.state_oldest, self.state_version),
        }
    }

    /// JSON Schema of the properties.
    fn schema(&self) -> Json {
        let mut all = Map::new();
        for property in self.properties {
            let mut one = Map::new();
            one.insert("description".into(), property.about.into());
            if let Some(kind) = kind_of(property.expects) {
                one.insert("type".into(), kind);
            }
            one.insert("expects".into(), property.expects.into());
            if let (false, Ok(default)) = (property.default.is_empty(), serde_json::from_str::<Json>(property.default))
            {
                one.insert("default".into(), default);
            }
            if property.dynamic {
                one.insert("dynamic".into(), true.into());
            }
            if property.secret {
                one.insert("writeOnly".into(), true.into());
            }
            all.insert(property.name.into(), one.into());
        }
        let required: Vec<&str> = self.properties.iter().filter(|one| one.required).map(|one| one.name).collect();
        json!({ "type": "object", "properties": all, "required": required })
    }

    /// Whether it says that it stores what must outlive a restart.
    pub fn keeps(&self) -> bool {
        self.state_version > 0
    }

    /// Whether it can read what was stored by that version; 0: by one that said nothing of it.
    pub fn reads(&self, version: i64) -> bool {
        version == 0 || (i64::from(self.state_oldest)..=i64::from(self.state_version)).contains(&version)
    }

    /// Whether the guest declares this property.
    pub fn declares(&self, name: &str) -> bool {
        self.property(name).is_some()
    }

    pub fn property(&self, name: &str) -> Option<&'static Property> {
        self.properties.iter().find(|property| property.name.eq_ignore_ascii_case(name))
    }
}

/// The type in JSON Schema that the SDK means by its words; `None` for the words of others.
fn kind_of(expects: &str) -> Option<Json> {
    let kinds = [
        ("a text", json!("string")),
        ("true or false", json!("boolean")),
        ("a number", json!("number")),
        ("an integer", json!("integer")),
        ("a duration", json!(["string", "integer"])),
        ("a list", json!("array")),
        ("an object", json!("object")),
    ];
    kinds.into_iter().find(|(words, _)| expects.starts_with(words)).map(|(_, kind)| kind)
}

impl Property {
    /// # Safety
    /// `property` leads to a static property of the contract.
    unsafe fn read(property: *const abi::Property) -> Result<Property, String> {
        // SAFETY: see above.
        let property = unsafe { property.as_ref() }.ok_or("a property of its table is null")?;
        // SAFETY: the contract: its texts are static.
        unsafe {
            Ok(Property {
                name: text(property.name)?,
                about: text(property.about)?,
                expects: text(property.expects)?,
                required: property.flags & kind::REQUIRED != 0,
                secret: property.flags & kind::SECRET != 0,
                dynamic: property.flags & kind::DYNAMIC != 0,
                default: text(property.default)?,
            })
        }
    }
}

/// # Safety
/// The text is static.
unsafe fn text(text: abi::Str) -> Result<&'static str, String> {
    // SAFETY: see above.
    let bytes = unsafe { text.as_bytes() };
    std::str::from_utf8(bytes).map_err(|_| "a text of its table is not UTF-8".into())
}

/// # Safety
/// `pointer` is null, or leads to `count` static items.
unsafe fn array<T>(pointer: *const T, count: usize) -> &'static [T] {
    if pointer.is_null() {
        return &[];
    }
    // SAFETY: see above.
    unsafe { std::slice::from_raw_parts(pointer, count) }
}
