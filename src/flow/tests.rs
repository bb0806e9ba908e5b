//! The real tasks of a rule, driven by sources and sinks that do what a test says. After each test the ledger and the
//! accounts of the sinks balance, no receipt was dropped without a word, and no message was acknowledged twice.

mod burying;
mod crashing;
mod ending;
mod event_time;
mod feeding;
mod joining;
mod kit;
mod overflow;
mod sending;
mod sharing;
mod stalling;
mod storing;
mod storm;
