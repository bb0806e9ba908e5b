//! Each connector against the contract of `io`, and the mqtt connector against a real mosquitto.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "connectors/broker.rs"]
mod broker;
#[path = "connectors/contract.rs"]
mod contract;
#[path = "connectors/mqtt.rs"]
mod mqtt;
