//! Everything that a plugin can be, as the engine sees it: built, installed, used.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/compiled.rs"]
#[allow(dead_code)]
mod compiled;
#[path = "plugins/kinds.rs"]
mod kinds;
#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper_served;
#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;
#[path = "plugins/older.rs"]
mod older;
#[path = "plugins/running.rs"]
mod running;
#[path = "plugins/undone.rs"]
mod undone;
