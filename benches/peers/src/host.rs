//! The machine and this process, as the kernel tells of them.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Bytes of a page of memory.
const PAGE: usize = 4096;

/// The machine while a row began.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Host {
    /// Processors that this process may use.
    pub cores: usize,
    /// The processor's model.
    pub cpu: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Threads that wanted to run, on average over a minute.
    pub load: f64,
}

/// What this process has used.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Used {
    /// The most memory that was resident at once, mapped files included.
    pub peak_rss_bytes: u64,
    /// Bytes read from the device.
    pub read_bytes: u64,
    /// Bytes given to the device.
    pub write_bytes: u64,
    /// Seconds of processors.
    pub cpu_s: f64,
}

impl Host {
    /// As it is now.
    pub fn now() -> Host {
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
        Host {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu.unwrap_or_default().to_owned(),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim_end().to_owned(),
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }
}

impl Used {
    /// So far.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn so_far() -> Result<Used> {
        let io = read("/proc/self/io");
        Ok(Used {
            peak_rss_bytes: field(&read("/proc/self/status"), "VmHWM:").context("/proc/self/status has no VmHWM")? * 1024,
            read_bytes: field(&io, "read_bytes:").unwrap_or(0),
            write_bytes: field(&io, "write_bytes:").unwrap_or(0),
            cpu_s: cpu_seconds()?,
        })
    }

    /// What has come on top of `before`; the peak stays that of the process.
    pub fn since(&self, before: &Used) -> Used {
        Used {
            peak_rss_bytes: self.peak_rss_bytes,
            read_bytes: self.read_bytes - before.read_bytes,
            write_bytes: self.write_bytes - before.write_bytes,
            cpu_s: self.cpu_s - before.cpu_s,
        }
    }
}

/// Has the kernel hand out this much memory, and gives it back. Where a virtual machine returns free memory to its host, what is free is
/// slow to touch until it was touched once, and the longer ago that was the more of it: a row would measure what ran before it. In
/// [`Used::peak_rss_bytes`] it does not count.
///
/// # Errors
/// The kernel does not forget the peak.
pub fn touch_memory(bytes: u64) -> Result<()> {
    let mut memory = vec![0u8; bytes as usize];
    memory.chunks_mut(PAGE).for_each(|page| page[0] = 1);
    drop(std::hint::black_box(memory));
    std::fs::write("/proc/self/clear_refs", "5").context("resetting the peak of memory in /proc/self/clear_refs")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The first number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

fn cpu_seconds() -> Result<f64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes a whole structure to the pointer, or fails.
    let error = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    if error != 0 {
        return Err(std::io::Error::last_os_error()).context("getrusage");
    }
    // SAFETY: all bytes are initialized: zeros at first, and what the kernel has written.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        assert_eq!(field("VmPeak:\t  10 kB\nVmHWM:\t  1234 kB\n", "VmHWM:"), Some(1234));
        assert_eq!(field("rchar: 5\nread_bytes: 7\n", "write_bytes:"), None);
    }

    #[test]
    fn memory_and_time_are_counted() {
        let before = Used::so_far().unwrap();
        let memory = std::hint::black_box(vec![1u8; 64 << 20]);
        let used = Used::so_far().unwrap();
        assert!(used.peak_rss_bytes >= memory.len() as u64);
        assert!(used.since(&before).cpu_s >= 0.0 && used.cpu_s > 0.0);
        let host = Host::now();
        drop(memory);
        touch_memory(64 << 20).unwrap();
        assert!(Used::so_far().unwrap().peak_rss_bytes < used.peak_rss_bytes - (32 << 20));
        assert!(host.cores > 0 && host.memory_bytes > 0 && !host.kernel.is_empty());
    }
}
