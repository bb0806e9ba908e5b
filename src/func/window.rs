//! Functions that the window answers: its bounds, and the number of a row in it.

use super::{Func, Special};

const fn bound(name: &'static str) -> Func {
    Func::special(name, "() -> bigint", Special::WindowBound).family("window")
}

pub const FUNCS: &[Func] = &[
    bound("window_start")
        .about("When the window starts, in milliseconds since 1970; null outside of a window.")
        .examples(&[("isnull(window_start())", "true"), ("coalesce(window_start(), 0)", "0")]),
    bound("window_end")
        .about("When the window ends, in milliseconds since 1970; null outside of a window.")
        .examples(&[("isnull(window_end())", "true"), ("coalesce(window_end(), 0)", "0")]),
    bound("window_trigger")
        .about("The time that made the window be sent, in milliseconds since 1970; null outside of a window.")
        .examples(&[("isnull(window_trigger())", "true"), ("coalesce(window_trigger(), 0)", "0")]),
    Func::special("row_number", "() -> bigint", Special::RowNumber)
        .family("window")
        .about("The number of the row, or group, in the window, from 1.")
        .examples(&[("row_number()", "1"), ("row_number() + 1", "2")]),
];
