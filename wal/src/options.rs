//! What a log needs to know before it is opened.

use crate::format::FLUSH_SIZE_MAX;
use crate::layout::Geometry;
use crate::{Error, Result};
use ashlar_disk::{BlockSize, IoMode};

/// The settings of a log. `segment_size`, `block` and `uuid` are for the life of the database (they stand in its superblock);
/// the others may differ from open to open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalOptions {
    /// The length of a segment's file in bytes: a power of two, 64 KiB to 1 GiB.
    pub segment_size: u64,
    /// The unit of all writes.
    pub block: BlockSize,
    /// The database's uuid: flushes of another database are not taken for this one's.
    pub uuid: [u8; 16],
    /// Direct or buffered I/O.
    pub mode: IoMode,
    /// The longest flush in bytes; rounded down to whole blocks, at least a block, at most 16 MiB and a segment. What is longer
    /// goes out as several flushes.
    pub flush_size_max: usize,
    /// How many bytes of log may lie between where replay would start and the end. A record takes at most a quarter of it.
    pub log_limit: u64,
    /// A deliberate mistake, for tests of the tests.
    #[cfg(feature = "faults")]
    #[doc(hidden)]
    pub mistake: Mistake,
}

/// A deliberate mistake of reading a log. Only with the feature `faults` can one be asked for.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mistake {
    /// None.
    #[default]
    None,
    /// Flushes are followed whatever their incarnation.
    AnyIncarnation,
    /// A flush whose checksum is wrong is taken for a whole one.
    TornIsWhole,
    /// What is damaged though it was confirmed is taken for the log's end.
    Truncates,
    /// A record goes on in a flush of another incarnation.
    RecordGoesOn,
}

impl WalOptions {
    /// Segments of 16 MiB, blocks of 4096 bytes, direct I/O, flushes of at most 1 MiB, at most 64 MiB of log.
    pub fn new(uuid: [u8; 16]) -> WalOptions {
        WalOptions {
            segment_size: 16 << 20,
            block: BlockSize::MIN,
            uuid,
            mode: IoMode::Direct,
            flush_size_max: 1 << 20,
            log_limit: 64 << 20,
            #[cfg(feature = "faults")]
            mistake: Mistake::None,
        }
    }

    /// The deliberate mistake that is to be made.
    pub(crate) fn mistake(&self) -> Mistake {
        #[cfg(feature = "faults")]
        return self.mistake;
        #[cfg(not(feature = "faults"))]
        Mistake::None
    }

    /// The sizes in a form that positions are computed from, checked.
    pub(crate) fn geometry(&self) -> Result<Geometry> {
        let range = 64 << 10..=1 << 30;
        if !self.segment_size.is_power_of_two() || !range.contains(&self.segment_size) {
            return Err(Error::Options("the segment size must be a power of two from 64 KiB to 1 GiB"));
        }
        let block = self.block.bytes() as u64;
        let flush_max = (self.flush_size_max as u64).min(FLUSH_SIZE_MAX).min(self.segment_size);
        let flush_max = (flush_max - flush_max % block).max(block);
        Ok(Geometry { block, segment_size: self.segment_size, flush_max })
    }

    /// What stands for the uuid in each flush.
    pub fn uuid_tag(&self) -> u64 {
        let half = |at: usize| (0..8).fold(0, |tag, i| tag | u64::from(self.uuid[at + i]) << (8 * i));
        half(0) ^ half(8)
    }
}
