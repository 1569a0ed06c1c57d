//! The two ways to make a write durable, and which is cheaper: that differs by device, so it is measured.

use super::RealFs;
use crate::sync::{now, random_u64};
use crate::words::Words;
use crate::{Access, AlignedBuf, BlockSize, Create, Durability, File, Fs, IoMode, OpenHow, Result, SyncKind};
use std::path::Path;
use std::time::Duration;

/// How a write with [`Durability::Now`] is made. Both wait until the device says that the bytes are safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncMethod {
    /// One write with `RWF_DSYNC`: a single command with the FUA bit where the device has it.
    #[default]
    Dsync,
    /// A write, then `fdatasync`.
    Fdatasync,
}

impl SyncMethod {
    pub(super) fn to_u8(self) -> u8 {
        self as u8
    }

    /// The method whose `to_u8` gave `value`.
    pub(super) fn from_u8(value: u8) -> SyncMethod {
        if value == SyncMethod::Fdatasync as u8 { SyncMethod::Fdatasync } else { SyncMethod::Dsync }
    }
}

/// What a durable write of one block costs by either method: medians.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncCosts {
    /// By [`SyncMethod::Dsync`].
    pub dsync: Duration,
    /// By [`SyncMethod::Fdatasync`].
    pub fdatasync: Duration,
}

impl SyncCosts {
    /// The cheaper method.
    pub fn best(&self) -> SyncMethod {
        if self.fdatasync < self.dsync { SyncMethod::Fdatasync } else { SyncMethod::Dsync }
    }
}

/// Writes by each method, and at most so long for both.
const ROUNDS: usize = 64;
const TIME_MAX: Duration = Duration::from_millis(400);

/// Measures in `dir`, as the log writes: into blocks that were written before, one at a time. `fs` is the measurement's own,
/// since the method is a setting of all its files.
pub(super) fn measure(fs: &RealFs, dir: &Path, block: BlockSize) -> Result<SyncCosts> {
    let path = dir.join(format!(".ashlar-measure-{:016x}", random_u64()));
    let how = OpenHow { access: Access::ReadWrite, create: Create::New, mode: IoMode::Direct, block };
    let file = fs.open(&path, &how)?;
    let measured = measure_file(fs, &*file, block.bytes());
    fs.remove(&path)?;
    measured
}

fn measure_file(fs: &RealFs, file: &dyn File, block: usize) -> Result<SyncCosts> {
    let zeros = AlignedBuf::zeroed(ROUNDS * block);
    file.write(0, &[zeros.words()], Durability::Later)?;
    file.sync(SyncKind::All)?;
    let [dsync, fdatasync] = alternate(fs, file, &zeros.words()[..block / 8])?;
    Ok(SyncCosts { dsync, fdatasync })
}

/// The methods take turns, so that what else the device does meets both alike.
fn alternate(fs: &RealFs, file: &dyn File, block: &Words) -> Result<[Duration; 2]> {
    let mut times = [Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS)];
    let start = now();
    for round in 0..ROUNDS {
        for (method, times) in [SyncMethod::Dsync, SyncMethod::Fdatasync].into_iter().zip(&mut times) {
            fs.set_sync_method(method);
            let before = now();
            file.write((round * size_of_val(block)) as u64, &[block], Durability::Now)?;
            times.push(now() - before);
        }
        if now() - start > TIME_MAX {
            break;
        }
    }
    Ok(times.map(median))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
