//! `kuiper.h` and `abi.rs` are one contract: a C program prints the layout of every struct, and it must be ours.

use std::fmt::Write as _;
use std::mem::{align_of, size_of, MaybeUninit};
use std::path::Path;
use std::process::Command;
use std::ptr::addr_of;

use kuiper_plugin::abi;

/// Lines `struct size` and `struct.field offset size`, ours and the C program that prints its own.
#[derive(Default)]
struct Layouts {
    ours: String,
    program: String,
}

macro_rules! layouts {
    ($($rust:ident = $c:ident { $($field:ident $(= $renamed:ident)?),* $(,)? })*) => {{
        let mut all = Layouts::default();
        $(
            let empty = MaybeUninit::<abi::$rust>::uninit();
            let start = empty.as_ptr();
            all.strukt(stringify!($c), size_of::<abi::$rust>());
            let mut ends = Vec::new();
            $(
                // SAFETY: only addresses are taken.
                let (offset, size) = unsafe {
                    let field = addr_of!((*start).$field);
                    (field as usize - start as usize, abi::size_behind(field))
                };
                let renamed: &[&str] = &[$(stringify!($renamed))?];
                all.field(stringify!($c), renamed.first().unwrap_or(&stringify!($field)), offset, size);
                ends.push(offset + size);
            )*
            let align = align_of::<abi::$rust>();
            let end = ends.last().expect("a field");
            assert_eq!((end + align - 1) / align * align, size_of::<abi::$rust>(), "{}: not all fields", stringify!($rust));
        )*
        all
    }};
}

impl Layouts {
    fn strukt(&mut self, name: &str, size: usize) {
        writeln!(self.ours, "{} {}", name, size).unwrap();
        writeln!(self.program, "printf(\"{0} %zu\\n\", sizeof({0}));", name).unwrap();
    }

    fn field(&mut self, name: &str, field: &str, offset: usize, size: usize) {
        writeln!(self.ours, "{}.{} {} {}", name, field, offset, size).unwrap();
        writeln!(
            self.program,
            "printf(\"{0}.{1} %zu %zu\\n\", offsetof({0}, {1}), sizeof((({0} *)0)->{1}));",
            name, field
        )
        .unwrap();
    }

    fn constant(&mut self, name: &str, value: u64) {
        writeln!(self.ours, "{} {}", name, value).unwrap();
        writeln!(self.program, "printf(\"{0} %llu\\n\", (unsigned long long){0});", name).unwrap();
    }
}

#[test]
fn the_c_header_is_the_same_contract() {
    let mut all = layouts! {
        Str = kuiper_str { pointer, len }
        Value = kuiper_value { tag, extra, len, data }
        Member = kuiper_member { key, value }
        Batch = kuiper_batch { size, flags, columns, width, height, values, times, metas, properties }
        Messages = kuiper_messages { size, flags, count, payloads, times, metas, properties }
        Emission = kuiper_emission { size, flags, position, token }
        Fault = kuiper_fault { size, reserved, host, set, row }
        Output = kuiper_output { size, reserved, host, put, fail }
        Context = kuiper_context {
            size, abi, host, rule, operator = op, site, retain, release, log, status, state_get, state_put, emit_rows, emit_bytes,
            emit_error, emit_end, stopped, wait, emit_rows_with, emit_bytes_with, acknowledged, template = template_text, json_path,
            count, secret, folder, instance, run,
        }
        Source = kuiper_source {
            size, reserved, create, provision, connect, subscribe, pull, close, destroy, rewind, reset, ping,
        }
        Sink = kuiper_sink {
            size, reserved, create, provision, connect, collect, collect_list, close, destroy, collect_bytes, flush, position, resume,
            ping,
        }
        Answers = kuiper_answers { size, reserved, host, rows, bytes }
        Lookup = kuiper_lookup { size, reserved, create, provision, connect, find, close, destroy, ping }
        Function = kuiper_function {
            size, reserved, create, validate, call, start, add, result, save, load, discard, destroy,
        }
        Property = kuiper_property { size, flags, name, about, expects, default = default_value }
        Example = kuiper_example { call, result }
        Symbol = kuiper_symbol {
            size, kind, export = exported, flags, name, about, data, table, properties, properties_count, signature, examples,
            examples_count, state_version, state_oldest,
        }
        Plugin = kuiper_plugin { size, abi, name, version, sdk, symbols, count }
    };
    for (name, value) in [
        ("KUIPER_ABI_VERSION", abi::VERSION),
        ("KUIPER_LATER", abi::code::LATER),
        ("KUIPER_NEVER", abi::code::NEVER),
        ("KUIPER_BUG", abi::code::BUG),
        ("KUIPER_STOPPED", abi::code::STOPPED),
        ("KUIPER_NULL", abi::tag::NULL),
        ("KUIPER_BOOL", abi::tag::BOOL),
        ("KUIPER_INT", abi::tag::INT),
        ("KUIPER_FLOAT", abi::tag::FLOAT),
        ("KUIPER_TEXT", abi::tag::TEXT),
        ("KUIPER_BYTES", abi::tag::BYTES),
        ("KUIPER_TIME", abi::tag::TIME),
        ("KUIPER_ARRAY", abi::tag::ARRAY),
        ("KUIPER_OBJECT", abi::tag::OBJECT),
        ("KUIPER_MISSING", abi::tag::MISSING),
        ("KUIPER_SOURCE", abi::kind::SOURCE),
        ("KUIPER_SINK", abi::kind::SINK),
        ("KUIPER_LOOKUP", abi::kind::LOOKUP),
        ("KUIPER_FUNCTION", abi::kind::FUNCTION),
        ("KUIPER_SINGLETON", abi::kind::SINGLETON),
        ("KUIPER_EMITS_BYTES", abi::kind::EMITS_BYTES),
        ("KUIPER_PULLED", abi::kind::PULLED),
        ("KUIPER_AGGREGATE", abi::kind::AGGREGATE),
        ("KUIPER_REQUIRED", abi::kind::REQUIRED),
        ("KUIPER_SECRET", abi::kind::SECRET),
        ("KUIPER_ONE_AS_ROW", abi::kind::ONE_AS_ROW),
        ("KUIPER_DYNAMIC", abi::kind::DYNAMIC),
        ("KUIPER_TAKES_BYTES", abi::kind::TAKES_BYTES),
        ("KUIPER_LOG_DEBUG", abi::level::DEBUG),
        ("KUIPER_CONNECTED", abi::status::CONNECTED),
    ] {
        all.constant(name, u64::from(value));
    }
    for (n, byte) in abi::MARKER.iter().enumerate() {
        all.constant(&format!("marker[{}]", n), u64::from(*byte));
    }

    let folder = std::env::temp_dir().join(format!("kuiper-header-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (source, program) = (folder.join("layout.c"), folder.join("layout"));
    let text = format!(
        "#include <stdio.h>\n#include \"kuiper.h\"\nint main(void) {{\nstatic const unsigned char marker[16] = KUIPER_MARKER;\n{}return 0;\n}}\n",
        all.program
    );
    std::fs::write(&source, text).unwrap();
    let compiled = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .status()
        .expect("this test needs a C compiler, `cc`");
    assert!(compiled.success());
    let theirs = Command::new(&program).output().unwrap().stdout;
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(all.ours, String::from_utf8(theirs).unwrap());
}
