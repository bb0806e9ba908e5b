use serde_json::json;

use super::answer::{Answer, empty, labelled_text};
use super::{Call, process};

pub(super) async fn ping(_: Call) -> Answer {
    Ok(empty())
}

/// What runs here, and what it takes of the machine.
pub(super) async fn information(call: Call) -> Answer {
    let uptime = call.server.host().uptime();
    let mut all = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "arch": arch(),
        "upTimeSeconds": uptime.as_secs(),
    });
    if let Some(seconds) = process::cpu_seconds() {
        let share = 100.0 * seconds / uptime.as_secs_f64().max(0.001);
        all["cpuUsage"] = format!("{share:.2}%").into();
    }
    if let Some(used) = process::memory_used() {
        all["memoryUsed"] = used.to_string().into();
    }
    if let Some(total) = process::memory_total() {
        all["memoryTotal"] = total.to_string().into();
    }
    Ok(labelled_text(&all))
}

/// The architecture in Go's words.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        other => other,
    }
}
