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

/// A type of `abi.rs` in C.
fn in_c(rust: &str) -> String {
    let snake = |name: &str| match name {
        "c_void" => "void".to_owned(),
        "usize" => "size_t".to_owned(),
        "u32" | "i32" | "u64" | "i64" => format!("{}int{}_t", if name.starts_with('u') { "u" } else { "" }, &name[1..]),
        other => format!("kuiper_{}", other.to_lowercase()),
    };
    let rust = rust.trim();
    if let Some(to) = rust.strip_prefix("*const ") {
        return format!("const {} *", in_c(to).trim_end());
    }
    match rust.strip_prefix("*mut ") {
        Some(to) => format!("{} *", in_c(to).trim_end()),
        None => snake(rust),
    }
}

/// `fn(a: A, b: B) -> C` as the C of a pointer to such a function, of this name.
fn pointer(function: &str, name: &str) -> String {
    let (arguments, result) = function.split_once(')').unwrap();
    let arguments = arguments.split_once('(').unwrap().1;
    let types: Vec<String> = arguments
        .split(',')
        .filter(|one| !one.trim().is_empty())
        .map(|one| in_c(one.split_once(':').map_or(one, |(_, kind)| kind)))
        .collect();
    let result =
        result.split_once("->").map_or_else(|| "void".to_owned(), |(_, kind)| in_c(kind.trim().trim_end_matches(',')));
    format!("{} (*{})({})", result, name, types.join(", "))
}

#[test]
fn the_functions_of_the_c_header_take_and_return_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let text: String = ["abi.rs", "abi/tables.rs"]
        .iter()
        .map(|file| std::fs::read_to_string(folder.join(file)).unwrap())
        .flat_map(|text| {
            text.lines().filter(|line| !line.trim().starts_with("//")).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect::<Vec<_>>()
        .join(" ");
    // Types that have a name of their own, as `pub type Step = unsafe extern "C" fn(…) -> u32;`.
    let named: Vec<(&str, &str)> = text
        .split("pub type ")
        .skip(1)
        .filter_map(|rest| rest.split_once(';')?.0.split_once("= unsafe extern \"C\" fn"))
        .map(|(name, function)| (name.trim(), function))
        .collect();
    let mut program = String::from("#include \"kuiper.h\"\n");
    let mut count = 0;
    for rest in text.split("pub struct ").skip(1) {
        let (name, rest) = rest.split_once('{').unwrap();
        let name = in_c(name);
        let body = rest.split("#[repr").next().unwrap();
        for field in body.split("pub ").skip(1).filter(|field| field.contains("Option<")) {
            let (field, kind) = field.split_once(':').unwrap();
            let kind = kind.split_once("Option<").unwrap().1;
            let function = match kind.split_once("unsafe extern \"C\" fn") {
                Some((_, function)) => function.rsplit_once('>').unwrap().0.to_owned(),
                None => {
                    let alias = kind.split('>').next().unwrap().trim();
                    named.iter().find(|(name, _)| *name == alias).unwrap_or_else(|| panic!("{}", alias)).1.to_owned()
                }
            };
            // A word of C++ has another name in the header.
            let field = if field.trim() == "template" { "template_text" } else { field.trim() };
            count += 1;
            let pointer = pointer(&function, "function");
            writeln!(program, "void check_{0}(const {1} *table);", count, name).unwrap();
            writeln!(
                program,
                "void check_{0}(const {1} *table) {{ {2} = table->{3}; (void)function; }}",
                count,
                name,
                pointer,
                field.trim()
            )
            .unwrap();
        }
    }
    assert!(count > 50, "only {} functions are found", count);
    let folder = std::env::temp_dir().join(format!("kuiper-functions-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let source = folder.join("functions.c");
    let compiled = |program: &str| {
        std::fs::write(&source, program).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-I"]);
        let output =
            cc.arg(env!("CARGO_MANIFEST_DIR")).arg(&source).output().expect("this test needs a C compiler, `cc`");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (same, told) = compiled(&program);
    assert!(same, "{}", told);
    // It can fail.
    let (same, _) = compiled(&program.replacen("const kuiper_batch *", "kuiper_batch *", 1));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(!same);
}
