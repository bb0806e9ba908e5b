//! Each connector against the contract of `io`, the mqtt connector against a real mosquitto, and the rest sink against a
//! small HTTP server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "connectors/broker.rs"]
// Other tests use the rest of it.
#[allow(dead_code)]
mod broker;
#[path = "connectors/contract.rs"]
mod contract;
#[path = "connectors/http.rs"]
// Other tests use the rest of it.
#[allow(dead_code)]
mod http;
#[path = "connectors/mqtt.rs"]
mod mqtt;
#[path = "connectors/rest.rs"]
mod rest;
#[path = "connectors/scripted.rs"]
mod scripted;
