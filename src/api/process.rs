//! What this process takes of the machine, as Linux tells it under `/proc`. What cannot be read is not told; processes
//! of plugins are not counted in.

/// Linux counts processor time, and times since its own start, in hundredths of a second.
const TICKS: f64 = 100.0;

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// A field of `/proc/self/stat`, counted from the state of the process.
fn stat(field: usize) -> Option<f64> {
    let stat = read("/proc/self/stat")?;
    // The name of the program may hold anything; what follows its bracket does not.
    stat.rsplit_once(')')?.1.split_whitespace().nth(field)?.parse().ok()
}

/// Processor time in seconds, user and system.
pub fn cpu_seconds() -> Option<f64> {
    Some((stat(11)? + stat(12)?) / TICKS)
}

/// When it began, in seconds since 1970.
pub fn start_seconds() -> Option<f64> {
    let machine = read("/proc/stat")?;
    let since = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
    Some(since + stat(19)? / TICKS)
}

/// Bytes in memory.
pub fn memory_used() -> Option<u64> {
    kilobytes(&read("/proc/self/status")?, "VmRSS:")
}

/// Bytes of addresses.
pub fn memory_mapped() -> Option<u64> {
    kilobytes(&read("/proc/self/status")?, "VmSize:")
}

/// Bytes of the machine, or of the control group where that allows less.
pub fn memory_total() -> Option<u64> {
    let machine = kilobytes(&read("/proc/meminfo")?, "MemTotal:")?;
    let group = read("/sys/fs/cgroup/memory.max").or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let limit = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(limit.map_or(machine, |limit| limit.min(machine)))
}

/// Files, sockets and the like that are open.
pub fn open_files() -> Option<u64> {
    // One of them is the folder that is read.
    std::fs::read_dir("/proc/self/fd").ok().map(|all| (all.count() as u64).saturating_sub(1))
}

/// How many may be open; nothing where there is no limit.
pub fn most_files() -> Option<u64> {
    let limits = read("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let began = start_seconds().unwrap();
        assert!(began > now - 86_400.0 && began <= now + 1.0, "{began} at {now}");
        assert!(memory_used().unwrap() > 1 << 20 && memory_used() <= memory_mapped());
        let before = open_files().unwrap();
        let _file = std::fs::File::open("/proc/self/stat").unwrap();
        assert!(before >= 3 && most_files().is_none_or(|most| most >= before));
        assert!(cpu_seconds().unwrap() >= 0.0);
    }
}
