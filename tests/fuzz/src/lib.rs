//! What the fuzz targets share. A target takes any bytes and must come to an end: with answers or errors, never with a panic, a
//! hang or a wrong answer.
//!
//! | target | bytes are | must hold |
//! | --- | --- | --- |
//! | `dump` | a dump file | what is read, written again and read again is the same |
//! | `superblock` | a superblock copy | what is accepted encodes to what decodes to the same |
//! | `log` | segments of a log | scan and records agree; memory is bounded |
//! | `values` | a record, a leaf's cell, an entry of the catalog | refused, or no larger than its bytes say |
//! | `database` | changes to the files of a database | opened, read, verified and written to, or refused |
//! | `operations` | a sequence of operations and the call of the last during which the machine crashes | what was confirmed is there, and nothing else |
//!
//! For those whose bytes would stand behind a checksum any checksum fits ([`believe_all`]): a fuzzer could not get past it.

pub mod image;

/// From here on any checksum fits. For targets whose bytes no checksum covers.
pub fn believe_all() {
    #[cfg(fuzzing)]
    ashlar_disk::checksum::ANY_FITS.store(true, std::sync::atomic::Ordering::Relaxed);
}
