use serde_json::json;

use super::Call;
use super::answer::{Answer, empty, labelled_text};

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
    if let Some(seconds) = cpu_seconds() {
        let share = 100.0 * seconds / uptime.as_secs_f64().max(0.001);
        all["cpuUsage"] = format!("{share:.2}%").into();
    }
    if let Some(used) = memory_used() {
        all["memoryUsed"] = used.to_string().into();
    }
    if let Some(total) = memory_total() {
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

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Processor time of this process, user and system. Linux counts it in hundredths of a second.
fn cpu_seconds() -> Option<f64> {
    let stat = read("/proc/self/stat")?;
    // The name of the program may hold anything; what follows its bracket does not.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

/// Bytes in memory.
fn memory_used() -> Option<u64> {
    kilobytes(&read("/proc/self/status")?, "VmRSS:")
}

/// Bytes of the machine, or of the control group where that allows less.
fn memory_total() -> Option<u64> {
    let machine = kilobytes(&read("/proc/meminfo")?, "MemTotal:")?;
    let group = read("/sys/fs/cgroup/memory.max").or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let limit = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(limit.map_or(machine, |limit| limit.min(machine)))
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb * 1024)
}
