//! Everything that a plugin can be, as the engine sees it: built, installed, used.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;

#[path = "plugins/older.rs"]
mod older;
