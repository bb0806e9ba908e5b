//! A plugin that does what none should. The engine's tests build it.

use kuiper_plugin::{Owned, Result, Row, Value};

/// Gives back its argument. It panics at one number in 500, and takes the process with it where there is a file `crash`
/// in the working directory, which it removes, so that this happens once.
fn crash(arguments: Row<'_>) -> Result<Owned> {
    if std::fs::remove_file("crash").is_ok() {
        // SAFETY: there is none; a segmentation fault is what is asked for.
        unsafe { std::ptr::null_mut::<u8>().write_volatile(0) };
    }
    if let Value::Int(number) = arguments.arg(0) {
        assert!(number % 500 != 250, "as asked at {number}");
    }
    Ok(arguments.arg(0).to_owned())
}

kuiper_plugin::export! {
    function "crash" => row(crash) { signature: "(any) -> any" },
}
