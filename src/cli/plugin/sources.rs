//! What the binary carries so that a project needs nothing else: the SDK, the plugins of ours, and empty projects.

use crate::plugin::Kind;

/// Path below the folder of the project, and content.
pub(super) type Files = &'static [(&'static str, &'static str)];

macro_rules! files {
    ($folder:literal: $($path:literal)*) => {
        &[$(($path, include_str!(concat!("../../../plugins/", $folder, "/", $path)))),*]
    };
}

pub(super) const SDK: Files = files!("sdk":
    "Cargo.toml"
    "kuiper.h"
    "kuiper_easy.h"
    "src/abi.rs"
    "src/abi/constants.rs"
    "src/abi/tables.rs"
    "src/abi/values.rs"
    "src/context.rs"
    "src/emitter.rs"
    "src/entries.rs"
    "src/error.rs"
    "src/export.rs"
    "src/export/fits.rs"
    "src/function.rs"
    "src/lib.rs"
    "src/lookup.rs"
    "src/messages.rs"
    "src/props.rs"
    "src/rows.rs"
    "src/sink.rs"
    "src/source.rs"
    "src/testing.rs"
    "src/testing/engine.rs"
    "src/testing/engine/asked.rs"
    "src/testing/example.rs"
    "src/testing/function.rs"
    "src/testing/lookup.rs"
    "src/testing/sink.rs"
    "src/testing/source.rs"
    "src/testing/text.rs"
    "src/value.rs"
);

const MYSQL: Files = files!("mysql":
    "Cargo.toml"
    "mysql.json"
    "src/address.rs"
    "src/cell.rs"
    "src/failure.rs"
    "src/lib.rs"
    "src/lookup.rs"
    "src/moment.rs"
    "src/query.rs"
    "src/reader.rs"
    "src/session.rs"
    "src/source.rs"
    "src/statement.rs"
    "src/table.rs"
);

const RANDOM: Files = files!("random": "Cargo.toml" "random.json" "random.yaml" "src/lib.rs");

const GEOHASH: Files = files!("geohash": "Cargo.toml" "geohash.json" "src/cell.rs" "src/lib.rs");

const ECHO: Files = files!("echo": "Cargo.toml" "src/lib.rs");

const IMAGE: Files = files!("image": "Cargo.toml" "src/lib.rs");

const ZMQ: Files = files!("zmq":
    "Cargo.toml"
    "src/endpoint.rs"
    "src/lib.rs"
    "src/publisher.rs"
    "src/source.rs"
    "src/wire.rs"
    "zmq.json"
    "zmq.yaml"
);

/// Versions that our plugins are tested with.
pub(super) const LOCK: &str = include_str!("../../../Cargo.lock");

const SINK: Files =
    &[("Cargo.toml", include_str!("templates/Cargo.toml.txt")), ("src/lib.rs", include_str!("templates/sink.rs.txt"))];

const SOURCE: Files = &[
    ("Cargo.toml", include_str!("templates/Cargo.toml.txt")),
    ("NAME.yaml", include_str!("templates/source.yaml.txt")),
    ("src/lib.rs", include_str!("templates/source.rs.txt")),
];

const FUNCTION: Files = &[
    ("Cargo.toml", include_str!("templates/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("templates/function.rs.txt")),
];

/// A project of ours to begin with.
pub(super) struct Ours {
    pub name: &'static str,
    pub kinds: &'static [Kind],
    pub files: Files,
}

/// An example in C, which a project in C begins with.
pub(super) struct InC {
    pub name: &'static str,
    pub text: &'static str,
    /// Properties that it is tested with.
    pub props: &'static str,
}

macro_rules! in_c {
    ($name:literal, $props:literal) => {
        InC { name: $name, text: include_str!(concat!("../../../plugins/examples/c/", $name, ".c")), props: $props }
    };
}

/// The example of a kind.
pub(super) fn in_c(kind: Kind) -> InC {
    match kind {
        Kind::Sources => in_c!("ticks", r#"{"every": 10}"#),
        Kind::Sinks => in_c!("lines", r#"{"path": "/dev/null"}"#),
        Kind::Functions => in_c!("vowels", "{}"),
    }
}

/// What builds a project in C.
pub(super) const MAKEFILE: &str = include_str!("templates/Makefile.txt");

/// Version of the SDK that is carried: that of the first line which names one.
pub(super) fn sdk_version() -> &'static str {
    let manifest = SDK.iter().find(|(path, _)| *path == "Cargo.toml").map_or("", |(_, text)| *text);
    manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"')).unwrap_or("1")
}

pub(super) const OURS: &[Ours] = &[
    Ours { name: "mysql", kinds: &[Kind::Sinks, Kind::Sources], files: MYSQL },
    Ours { name: "random", kinds: &[Kind::Sources], files: RANDOM },
    Ours { name: "geohash", kinds: &[Kind::Functions], files: GEOHASH },
    Ours { name: "echo", kinds: &[Kind::Functions], files: ECHO },
    Ours { name: "image", kinds: &[Kind::Functions], files: IMAGE },
    Ours { name: "zmq", kinds: &[Kind::Sources, Kind::Sinks], files: ZMQ },
];

/// An empty project.
pub(super) fn template(kind: Kind) -> Files {
    match kind {
        Kind::Sources => SOURCE,
        Kind::Sinks => SINK,
        Kind::Functions => FUNCTION,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// All files of a folder that a project needs.
    fn needed(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(below) = folders.pop() {
            for entry in fs::read_dir(&below).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                match path.is_dir() {
                    true if ["tests", "examples", "target"].contains(&name.as_str()) => {}
                    true => folders.push(path),
                    false if name.ends_with(".so") || name.ends_with(".zip") => {}
                    false => found.push(name),
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn nothing_is_left_out() {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins");
        let carried = |files: Files| files.iter().map(|(path, _)| (*path).to_owned()).collect::<Vec<_>>();
        assert_eq!(carried(SDK), needed(&plugins.join("sdk")));
        for ours in OURS {
            assert_eq!(carried(ours.files), needed(&plugins.join(ours.name)), "{}", ours.name);
        }
    }
}
