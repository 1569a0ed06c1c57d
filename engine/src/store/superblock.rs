//! The superblock: root of everything, written last and twice.
//!
//! The first mebibyte of `data` is set apart for four copies, at the fixed offsets of [`COPY_OFFSETS`]: two slots used in
//! turn, each with a mirror. A copy is one block long; its fields end at byte 4096:
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 8 | magic `ASHLARDB` |
//! | 8 | 4 | format version |
//! | 12 | 4 | feature flags: an unknown bit is refused |
//! | 16 | 16 | uuid of the database |
//! | 32 | 4 | block size in bytes |
//! | 36 | 4 | page size in bytes |
//! | 40 | 8 | log segment size in bytes |
//! | 48 | 8 | superblock number: rises with every superblock |
//! | 56 | 8 | checkpoint number: rises with every checkpoint |
//! | 64 | 8 | C: position of the log flush where replay starts |
//! | 72 | 8 | A: LSN of the last commit in the checkpoint |
//! | 80 | 4 | incarnation: rises with every open for writing |
//! | 84 | 4 | incarnation of the log at C |
//! | 88 | 8 | page-map root: block pointer, or 0 for an empty map |
//! | 96 | 4 | page-map height: levels, 0 for an empty map |
//! | 100 | 4 | length of the log directory's path, 0 for `wal` in the database's own |
//! | 104 | 8 | next page id never used |
//! | 112 | 8 | next tree id never used |
//! | 120 | 8 | page id of the catalog's root |
//! | 128 | 1024 | path of the log directory, UTF-8 |
//! | 1152 | 4 | clean mark: 1, if the log holds nothing from C on; else 0 |
//! | 4092 | 4 | crc32c of the bytes before |
//!
//! Invariants:
//! 1. A new superblock goes to the slot that does not hold the current one: first the primary copy, synced, *then* the mirror,
//!    synced. A checkpoint is durable for the purpose of reusing what it freed only when both are ([`Superblocks::write`]).
//! 2. So a crash leaves at most one bad copy, and at least one slot with a whole superblock whose blocks and log are untouched
//!    ([`choose`]). A slot with two bad copies is damage: it may have been the newest, so nothing is guessed.
//! 3. A slot is written only while its two copies are alike: an open for writing first mends what differs. Else a crash in the
//!    next write would leave two bad copies where one rotten one was.
//! 4. A superblock bears the clean mark only while no flush that counts stands at C or beyond: it is written when nothing can be appended
//!    any more (see `clean`), and whoever opens for writing makes one without it durable before anything is.

use super::page_header::{get_u32, get_u64, put_u32, put_u64};
use crate::error::{Corruption, Error, Result};
use crate::fault::Fault;
use ashlar_bufferpool::BlockPtr;
use ashlar_disk::{AlignedBuf, BlockSize, Durability, File, SyncKind, checksum};
use std::sync::Arc;

/// Where the copies stand, in bytes: slot 0, slot 1, mirror of slot 0, mirror of slot 1.
pub const COPY_OFFSETS: [u64; 4] = [0, 256 << 10, 512 << 10, 768 << 10];

/// Bytes set apart at the start of `data`.
pub const RESERVED_BYTES: u64 = 1 << 20;

/// The format this version writes and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Length of the fields of a copy.
const COPY_LEN: usize = 4096;
const MAGIC: [u8; 8] = *b"ASHLARDB";
const CRC_AT: usize = 4092;
const WAL_DIR_AT: usize = 128;
const CLEAN_AT: usize = 1152;
/// No number or position in a superblock gets here.
const NUMBER_MAX: u64 = 1 << 62;
/// Longest path of a log directory, in bytes.
pub const WAL_DIR_LEN_MAX: usize = 1024;

/// The fields of a superblock; see the module for each.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the module's table says what each is")]
pub struct Superblock {
    pub uuid: [u8; 16],
    pub block_size: BlockSize,
    pub page_size: usize,
    pub segment_size: u64,
    pub number: u64,
    pub checkpoint: u64,
    pub replay_from: u64,
    pub last_commit: u64,
    pub incarnation: u32,
    pub incarnation_at_replay: u32,
    pub map_root: Option<BlockPtr>,
    pub map_height: u32,
    pub next_page_id: u64,
    pub next_tree_id: u64,
    pub catalog_root: u64,
    pub wal_dir: String,
    pub clean: bool,
}

/// What one copy on disk turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Copy {
    /// Whole.
    Whole(Box<Superblock>),
    /// No superblock, or damaged: why.
    Bad(String),
    /// The disk did not give it, this time.
    Unreadable(ashlar_disk::Error),
    /// A superblock of a version, or with feature flags, unknown here.
    Unknown {
        /// Its format version.
        version: u32,
        /// Its feature flags.
        features: u32,
    },
}

impl Superblock {
    /// The bytes of a copy, a block long.
    pub fn encode(&self) -> AlignedBuf {
        let mut b = AlignedBuf::zeroed(self.block_size.bytes());
        b[..8].copy_from_slice(&MAGIC);
        put_u32(&mut b, 8, FORMAT_VERSION);
        b[16..32].copy_from_slice(&self.uuid);
        put_u32(&mut b, 32, self.block_size.bytes() as u32);
        put_u32(&mut b, 36, self.page_size as u32);
        put_u64(&mut b, 40, self.segment_size);
        put_u64(&mut b, 48, self.number);
        put_u64(&mut b, 56, self.checkpoint);
        put_u64(&mut b, 64, self.replay_from);
        put_u64(&mut b, 72, self.last_commit);
        put_u32(&mut b, 80, self.incarnation);
        put_u32(&mut b, 84, self.incarnation_at_replay);
        put_u64(&mut b, 88, self.map_root.map_or(0, BlockPtr::to_bits));
        put_u32(&mut b, 96, self.map_height);
        put_u32(&mut b, 100, self.wal_dir.len() as u32);
        put_u64(&mut b, 104, self.next_page_id);
        put_u64(&mut b, 112, self.next_tree_id);
        put_u64(&mut b, 120, self.catalog_root);
        b[WAL_DIR_AT..WAL_DIR_AT + self.wal_dir.len()].copy_from_slice(self.wal_dir.as_bytes());
        put_u32(&mut b, CLEAN_AT, u32::from(self.clean));
        let crc = crc32c::crc32c(&b[..CRC_AT]);
        put_u32(&mut b, CRC_AT, crc);
        b
    }

    /// Decodes a copy. Never panics, whatever the bytes; fields that contradict each other make it bad.
    pub fn decode(b: &[u8]) -> Copy {
        if b.len() < COPY_LEN {
            return Copy::Bad(format!("only {} bytes", b.len()));
        }
        if b[..8] != MAGIC {
            return Copy::Bad(if b[..COPY_LEN].iter().all(|&x| x == 0) { "empty".into() } else { "no magic number".into() });
        }
        let (found, expected) = (crc32c::crc32c(&b[..CRC_AT]), get_u32(b, CRC_AT));
        if !checksum::fits(found, expected) {
            return Copy::Bad(format!("checksum {found:#010x}, expected {expected:#010x}"));
        }
        let (version, features) = (get_u32(b, 8), get_u32(b, 12));
        if version != FORMAT_VERSION || features != 0 {
            return Copy::Unknown { version, features };
        }
        match Self::decode_fields(b) {
            Some(superblock) => Copy::Whole(Box::new(superblock)),
            None => Copy::Bad("fields out of range".into()),
        }
    }

    fn decode_fields(b: &[u8]) -> Option<Superblock> {
        let block_size = BlockSize::new(get_u32(b, 32) as usize)?;
        let page_size = get_u32(b, 36) as usize;
        let page_ok = page_size.is_power_of_two() && (block_size.bytes()..=65536).contains(&page_size);
        let segment_size = get_u64(b, 40);
        let segment_ok = segment_size.is_power_of_two() && (1 << 16..=1 << 30).contains(&segment_size);
        let root_bits = get_u64(b, 88);
        let map_root = if root_bits == 0 { None } else { Some(BlockPtr::from_bits(root_bits)?) };
        let map_height = get_u32(b, 96);
        let dir_len = get_u32(b, 100) as usize;
        let dir = b.get(WAL_DIR_AT..WAL_DIR_AT + dir_len.min(WAL_DIR_LEN_MAX + 1))?;
        let wal_dir = std::str::from_utf8(dir).ok()?.to_owned();
        let map_ok = map_root.is_some() == (map_height > 0) && map_height <= 16;
        // Numbers only rise, one at a time: none gets near its end in the life of any device.
        let numbers_ok =
            [48, 56, 64, 72, 104, 112, 120].iter().all(|&at| get_u64(b, at) < NUMBER_MAX) && get_u32(b, 80) < u32::MAX;
        let clean = get_u32(b, CLEAN_AT);
        let ok = page_ok && segment_ok && map_ok && numbers_ok && dir_len <= WAL_DIR_LEN_MAX && clean <= 1;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&b[16..32]);
        ok.then_some(Superblock {
            uuid,
            block_size,
            page_size,
            segment_size,
            number: get_u64(b, 48),
            checkpoint: get_u64(b, 56),
            replay_from: get_u64(b, 64),
            last_commit: get_u64(b, 72),
            incarnation: get_u32(b, 80),
            incarnation_at_replay: get_u32(b, 84),
            map_root,
            map_height,
            next_page_id: get_u64(b, 104),
            next_tree_id: get_u64(b, 112),
            catalog_root: get_u64(b, 120),
            wal_dir,
            clean: clean == 1,
        })
    }
}

/// Reads the four copies, in the order of [`COPY_OFFSETS`], from a file that is open for transfers in blocks of that size: the database's
/// own, or the smallest that the file takes where that is not known yet. A copy that can't be read is as good as a bad one, and may be
/// better next time.
pub fn read_copies(file: &dyn File, block: BlockSize) -> [Copy; 4] {
    COPY_OFFSETS.map(|offset| {
        let mut buf = AlignedBuf::zeroed(block.bytes().max(file.alignment().offset).max(COPY_LEN));
        match file.read(offset, &[buf.words_mut()]) {
            Ok(()) => Superblock::decode(&buf),
            // A file that ends before it has none: reading again tells the same.
            Err(e @ ashlar_disk::Error::Short { .. }) => Copy::Bad(e.to_string()),
            Err(e) => Copy::Unreadable(e),
        }
    })
}

/// Which copy an open starts from, and which slot the next superblock goes to.
#[derive(Debug)]
pub struct Chosen {
    /// The newest superblock that may be used.
    pub superblock: Superblock,
    /// The slot (0 or 1) it stands in.
    pub slot: usize,
    /// Copies that are not what the other copy of their slot is, and what they are to be (invariant 3).
    pub mend: Vec<(usize, Superblock)>,
    /// Damaged copies, in words, for the user.
    pub damaged: Vec<String>,
}

/// Chooses the superblock to start from (invariant 2).
///
/// | a slot's primary | its mirror | what it is |
/// | --- | --- | --- |
/// | whole | whole | the newer of the two (a crash may have come between them) |
/// | whole | bad | the primary: the mirror was being written, or has rotted |
/// | bad | whole | the mirror: the primary was being written (then it is older than the other slot), or has rotted |
/// | bad | bad | lost: never by a crash alone, and whether it was the newest can't be told: refused |
///
/// Of two slots that are not lost, the one with the higher number is taken.
pub fn choose(copies: &[Copy; 4]) -> Result<Chosen> {
    let unknown = copies.iter().find_map(|c| match c {
        Copy::Unknown { version, features } => Some((*version, *features)),
        _ => None,
    });
    if let Some((found, features)) = unknown {
        return Err(Error::UnknownFormat { found, features, known: FORMAT_VERSION });
    }
    let (Some(first), Some(second)) = (newer(&copies[0], &copies[2]), newer(&copies[1], &copies[3])) else {
        return Err(lost_error(copies));
    };
    let slot = usize::from(second.number > first.number);
    let newest = [first, second];
    let mut mend = Vec::new();
    let mut damaged = Vec::new();
    for (i, copy) in copies.iter().enumerate() {
        match copy {
            Copy::Bad(why) => damaged.push(format!("superblock copy {i} at byte {}: {why}", COPY_OFFSETS[i])),
            Copy::Unreadable(e) => damaged.push(format!("superblock copy {i}: {e}")),
            _ => {}
        }
        if !matches!(copy, Copy::Whole(s) if **s == *newest[i % 2]) {
            mend.push((i, newest[i % 2].clone()));
        }
    }
    Ok(Chosen { superblock: newest[slot].clone(), slot, mend, damaged })
}

fn newer<'a>(primary: &'a Copy, mirror: &'a Copy) -> Option<&'a Superblock> {
    match (primary, mirror) {
        (Copy::Whole(a), Copy::Whole(b)) => Some(if a.number >= b.number { a } else { b }),
        (Copy::Whole(a), _) | (_, Copy::Whole(a)) => Some(a),
        _ => None,
    }
}

fn lost_error(copies: &[Copy; 4]) -> Error {
    // With a copy that could not be read nobody knows yet whether anything is lost.
    let unreadable = copies.iter().find_map(|copy| if let Copy::Unreadable(e) = copy { Some(e) } else { None });
    if let Some(error) = unreadable {
        return error.clone().into();
    }
    let text = copies
        .iter()
        .enumerate()
        .map(|(i, c)| match c {
            Copy::Whole(s) => format!("copy {i} at byte {}: whole, number {}", COPY_OFFSETS[i], s.number),
            Copy::Bad(why) => format!("copy {i} at byte {}: {why}", COPY_OFFSETS[i]),
            Copy::Unreadable(e) => format!("copy {i}: {e}"),
            Copy::Unknown { version, .. } => format!("copy {i}: format version {version}"),
        })
        .collect::<Vec<_>>()
        .join("; ");
    Error::Corrupt(Box::new(Corruption::superblocks(text)))
}

/// Writes superblocks, in turn to the two slots.
#[derive(Debug)]
pub struct Superblocks {
    file: Arc<dyn File>,
    slot: usize,
    fault: Fault,
}

impl Superblocks {
    /// For a new database, whose four copies are alike.
    pub fn new(file: Arc<dyn File>) -> Superblocks {
        Superblocks { file, slot: 0, fault: Fault::None }
    }

    /// For a database opened for writing: first makes both copies of each slot alike (invariant 3).
    pub fn mend(file: Arc<dyn File>, chosen: &Chosen) -> Result<Superblocks> {
        for (copy, superblock) in &chosen.mend {
            write_copy(&*file, *copy, superblock)?;
            file.sync(SyncKind::Data)?;
        }
        Ok(Superblocks { file, slot: chosen.slot, fault: Fault::None })
    }

    /// The same, making a deliberate mistake.
    pub(crate) fn making(self, fault: Fault) -> Superblocks {
        Superblocks { fault, ..self }
    }

    /// Makes `superblock` the newest: to the slot not in use, primary and then mirror, each synced. After an error nothing is
    /// known of either copy, and the database must not write again.
    pub fn write(&mut self, superblock: &Superblock) -> Result<()> {
        let slot = 1 - self.slot;
        let copies = if self.fault.is(Fault::NoMirror) { 1 } else { 2 };
        for copy in [slot, slot + 2].into_iter().take(copies) {
            write_copy(&*self.file, copy, superblock)?;
            self.file.sync(SyncKind::Data)?;
        }
        self.slot = slot;
        Ok(())
    }
}

/// Writes the first superblock of a new file to all four copies; the caller syncs.
pub fn write_first(file: &dyn File, superblock: &Superblock) -> Result<()> {
    (0..COPY_OFFSETS.len()).try_for_each(|copy| write_copy(file, copy, superblock))
}

fn write_copy(file: &dyn File, copy: usize, superblock: &Superblock) -> Result<()> {
    let mut image = superblock.encode();
    Ok(file.write(COPY_OFFSETS[copy], &[image.words_mut()], Durability::Later)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(number: u64) -> Superblock {
        Superblock {
            uuid: [7; 16],
            block_size: BlockSize::MIN,
            page_size: 8192,
            segment_size: 1 << 20,
            number,
            checkpoint: 3,
            replay_from: 4096,
            last_commit: 4000,
            incarnation: 2,
            incarnation_at_replay: 1,
            map_root: BlockPtr::new(300, 2, 99),
            map_height: 1,
            next_page_id: 10,
            next_tree_id: 4,
            catalog_root: 1,
            wal_dir: "elsewhere/wal".into(),
            clean: number.is_multiple_of(2),
        }
    }

    fn whole(number: u64) -> Copy {
        Copy::Whole(Box::new(superblock(number)))
    }

    fn bad() -> Copy {
        Copy::Bad("checksum".into())
    }

    #[test]
    fn fields_come_back_and_any_flipped_bit_is_found() {
        let image = superblock(9).encode();
        assert_eq!(Superblock::decode(&image), whole(9));
        assert_eq!(Superblock::decode(&superblock(8).encode()), whole(8));
        for at in 0..4096 {
            let mut flipped = image.to_vec();
            flipped[at] ^= 0x10;
            assert!(matches!(Superblock::decode(&flipped), Copy::Bad(_)), "byte {at}");
        }
    }

    #[test]
    fn a_mark_that_is_neither_there_nor_not_is_no_superblock() {
        let mut image = superblock(9).encode();
        put_u32(&mut image, CLEAN_AT, 2);
        let crc = crc32c::crc32c(&image[..CRC_AT]);
        put_u32(&mut image, CRC_AT, crc);
        assert!(matches!(Superblock::decode(&image), Copy::Bad(_)));
    }

    #[test]
    fn an_unknown_version_is_named() {
        let mut image = superblock(9).encode();
        put_u32(&mut image, 8, 2);
        let crc = crc32c::crc32c(&image[..CRC_AT]);
        put_u32(&mut image, CRC_AT, crc);
        assert_eq!(Superblock::decode(&image), Copy::Unknown { version: 2, features: 0 });
        let copies = [Superblock::decode(&image), whole(1), whole(1), whole(1)];
        assert!(matches!(choose(&copies), Err(Error::UnknownFormat { found: 2, .. })));
    }

    #[test]
    fn each_crash_while_writing_leaves_the_right_choice() {
        // Slot 0 holds 8, slot 1 held 7 and is being written with 9.
        let cases = [
            ([whole(8), whole(7), whole(8), whole(7)], 8, 0, 0),
            ([whole(8), bad(), whole(8), whole(7)], 8, 0, 1),
            ([whole(8), whole(9), whole(8), whole(7)], 9, 1, 1),
            ([whole(8), whole(9), whole(8), bad()], 9, 1, 1),
            ([whole(8), whole(9), whole(8), whole(9)], 9, 1, 0),
            ([bad(), whole(9), whole(8), whole(9)], 9, 1, 1),
        ];
        for (copies, number, slot, mended) in cases {
            let chosen = choose(&copies).unwrap();
            assert_eq!((chosen.superblock.number, chosen.slot, chosen.mend.len()), (number, slot, mended), "{copies:?}");
        }
    }

    #[test]
    fn a_copy_that_can_not_be_read_is_no_loss_yet() {
        let error = ashlar_disk::Error::Io {
            op: ashlar_disk::Op::Read,
            path: "data".into(),
            offset: Some(262_144),
            errno: Some(5),
            kind: std::io::ErrorKind::Other,
        };
        let unreadable = || Copy::Unreadable(error.clone());
        assert_eq!(choose(&[whole(8), unreadable(), whole(8), whole(9)]).unwrap().superblock.number, 9);
        // The mirror was being written; whether the primary is whole will be seen when it can be read.
        assert!(matches!(choose(&[whole(8), unreadable(), whole(8), bad()]), Err(Error::Io(e)) if e == error));
        assert!(matches!(choose(&[unreadable(), bad(), whole(8), bad()]), Err(Error::Io(_))));
    }

    #[test]
    fn a_slot_with_both_copies_bad_is_refused() {
        assert!(choose(&[whole(8), bad(), whole(8), bad()]).is_err());
        assert!(choose(&[bad(), whole(9), bad(), whole(9)]).is_err());
        assert!(choose(&[bad(), bad(), bad(), bad()]).is_err());
    }
}
