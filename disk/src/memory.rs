//! How much memory there is to use.

use std::fs::read_to_string;

/// Where control groups say what their processes may use, by version of the interface.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// The smaller of the machine's memory and the control group's limit, in bytes; 1 GiB where neither can be read.
pub fn limit() -> u64 {
    let ram = read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let limits = LIMITS.iter().filter_map(|path| read_to_string(path).ok()?.trim().parse::<u64>().ok());
    limits.chain(ram).min().unwrap_or(1 << 30)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(total("MemTotal:       24684096 kB\nMemFree: 1 kB\n"), Some(24684096 << 10));
        assert_eq!(total("nonsense"), None);
        assert!(limit() >= 1 << 24);
    }
}
