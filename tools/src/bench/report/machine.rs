//! The machine that something was measured on.

use crate::error::Result;
use crate::units::{bytes, time};
use ashlar_disk::real::probe::probe;
use serde_json::{Value, json};
use std::path::Path;

/// What matters of it.
pub(super) struct Machine {
    processor: String,
    processors: usize,
    memory: u64,
    /// Of the last minute, five, fifteen, before the run.
    load: String,
    kernel: String,
    filesystem: String,
    io_uring: bool,
    /// Of the faster way.
    durable_write: Option<std::time::Duration>,
}

impl Machine {
    /// This one, with the file system of a directory.
    pub(super) fn this(dir: &Path) -> Result<Machine> {
        let probe = probe(dir)?;
        let costs = probe.sync_costs.as_ref().ok();
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Ok(Machine {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: field(&read("/proc/meminfo"), "MemTotal").and_then(|text| kibibytes(&text)).unwrap_or_default(),
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            kernel: probe.kernel,
            filesystem: probe.filesystem,
            io_uring: probe.io_uring.is_ok(),
            durable_write: costs.map(|costs| costs.dsync.min(costs.fdatasync)),
        })
    }

    /// As rows of a table.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        vec![
            ("processor", format!("{}, {} in use", self.processor, self.processors)),
            ("memory", bytes(self.memory)),
            ("load before", self.load.clone()),
            ("kernel", self.kernel.clone()),
            ("file system", self.filesystem.clone()),
            ("io_uring", if self.io_uring { "yes" } else { "no: threads" }.to_owned()),
            ("durable write", self.durable_write.map_or_else(|| "not measured".to_owned(), time)),
        ]
    }

    /// The same as an object.
    pub(super) fn object(&self) -> Value {
        json!({
            "processor": self.processor, "processors": self.processors, "memory_bytes": self.memory, "load": self.load,
            "kernel": self.kernel, "filesystem": self.filesystem, "io_uring": self.io_uring,
            "durable_write_ns": self.durable_write.map(|t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)),
        })
    }
}

/// The first value of that name in a list of `name: value`.
fn field(text: &str, name: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// Bytes, from `123 kB` as the kernel writes it.
fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_read() {
        let text = "processor\t: 0\nmodel name\t: A CPU: fast\nmodel name\t: Another\nMemTotal:       16 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A CPU: fast"));
        assert_eq!(field(text, "MemTotal").and_then(|text| kibibytes(&text)), Some(16 << 10));
        assert_eq!((field(text, "model"), kibibytes("16"), kibibytes("x kB")), (None, None, None));
    }
}
