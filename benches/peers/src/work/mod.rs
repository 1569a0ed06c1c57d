//! What the threads of a row do.
//!
//! ```text
//!   load    inserts in sorted and random order, bulk load
//!   on_data reads, scans, writes and read-modify-writes of the data set ──> ycsb: mixes of them
//!   blob    values of 1 MiB
//!   opens   opening after a clean close and after SIGKILL
//! ```

pub mod blob;
pub mod load;
pub mod on_data;
pub mod opens;
pub mod ycsb;

use crate::clock::Amount;
use anyhow::{Result, anyhow, ensure};
use ashlar_workload::data;

/// The seed of the order of random loads.
pub const ORDER_SEED: u64 = 0xA5;

/// A data set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Set {
    /// Entries.
    pub n: u64,
    /// Bytes of a value.
    pub value_len: usize,
}

impl Set {
    /// Bytes of an entry.
    pub fn entry_len(self) -> u64 {
        (data::KEY_LEN + self.value_len) as u64
    }

    /// Bytes of all entries.
    pub fn bytes(self) -> u64 {
        self.n * self.entry_len()
    }

    /// So many entries.
    pub fn amount(self, entries: u64) -> Amount {
        Amount { entries, bytes: entries * self.entry_len() }
    }

    /// The generation of what was read for entry `i`.
    ///
    /// # Errors
    /// It is not what was written.
    pub fn check(self, i: u64, found: Option<&[u8]>) -> Result<u64> {
        let bytes = found.ok_or_else(|| wrong(format!("entry {i} is missing")))?;
        data::generation_of(i, bytes, self.value_len)
            .ok_or_else(|| wrong(format!("entry {i} has a value of {} bytes that was never written there", bytes.len())))
    }

    /// Checks that an entry of a scan is entry `i`.
    ///
    /// # Errors
    /// It is not.
    pub fn check_entry(self, i: u64, key: &[u8], value: &[u8]) -> Result<()> {
        ensure!(
            data::entry_of(key) == Some(i),
            wrong(format!("a scan gives key {} where entry {i} should be", key.escape_ascii()))
        );
        self.check(i, Some(value)).map(drop)
    }
}

/// Data that is not as it was written.
pub fn wrong(what: String) -> anyhow::Error {
    anyhow!("wrong data: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told() {
        let set = Set { n: 10, value_len: 100 };
        let mut value = Vec::new();
        data::value(3, 7, 100, &mut value);
        assert_eq!(set.check(3, Some(&value)).unwrap(), 7);
        assert!(set.check(4, Some(&value)).is_err() && set.check(3, None).is_err());
        assert!(set.check_entry(3, &data::key(3), &value).is_ok() && set.check_entry(3, &data::key(4), &value).is_err());
        value[50] ^= 1;
        assert!(set.check(3, Some(&value)).is_err());
    }
}
