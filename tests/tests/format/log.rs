//! Reading the log: flushes from C on, where it ends, the records in it, and what a commit's record does.

use super::bytes::{Bytes, crc32c, u16_at, u32_at, u64_at};
use super::data::{Data, Entries, Superblock};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// Trees that keyspaces have: by id, name and entries.
pub(crate) type Trees = BTreeMap<u64, (String, Entries)>;

/// The log of a database.
pub(crate) struct Log<'a> {
    dir: PathBuf,
    superblock: &'a Superblock,
    tag: u64,
}

/// A valid flush.
struct Flush {
    lsn: u64,
    incarnation: u32,
    durable: u64,
    /// Offset of the first record that begins in it, or 0.
    first: usize,
    /// The bytes of header and payload.
    bytes: Vec<u8>,
}

/// A whole record.
pub(crate) struct Record {
    pub(crate) lsn: u64,
    pub(crate) body: Vec<u8>,
    /// How many flushes its bytes stand in.
    pub(crate) flushes: usize,
    /// Whether it crosses a segment's end.
    pub(crate) crosses: bool,
}

impl Log<'_> {
    /// The log of the database in `dir`.
    pub(crate) fn new<'a>(dir: &Path, superblock: &'a Superblock) -> Log<'a> {
        let named = if superblock.log_dir.is_empty() { "wal" } else { &superblock.log_dir };
        let tag = u64_at(&superblock.uuid, 0) ^ u64_at(&superblock.uuid, 8);
        Log { dir: dir.join(named), superblock, tag }
    }

    fn segment(&self, number: u64) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.dir.join(format!("{number:012}.wal"))).ok()?;
        assert_eq!(bytes.len() as u64, self.superblock.segment_size, "length of segment {number}");
        Some(bytes)
    }

    /// The valid flush at `lsn`, if there is one. `segment` holds that position.
    fn flush_at(&self, lsn: u64, segment: &[u8]) -> Option<Flush> {
        let b = &segment[(lsn % self.superblock.segment_size) as usize..];
        let (len, first) = (u32_at(b, 40) as usize, u32_at(b, 44) as usize);
        let head = u32_at(b, 4) == u32::from_le_bytes(*b"Awal") && u64_at(b, 16) == self.tag && u64_at(b, 24) == lsn;
        if !head || !(64..=b.len()).contains(&len) || u32_at(b, 0) != crc32c(&b[4..len]) {
            return None;
        }
        assert_eq!(u16_at(b, 8), 1, "version of the log");
        assert!(b[10..12].iter().chain(&b[48..64]).all(|&x| x == 0) && u64_at(b, 32) <= lsn);
        assert!(first == 0 || (64..len).contains(&first));
        Some(Flush { lsn, incarnation: u32_at(b, 12), durable: u64_at(b, 32), first, bytes: b[..len].to_vec() })
    }

    /// The flushes from C on, and where the log ends.
    fn flushes(&self) -> (Vec<Flush>, u64) {
        let Superblock { block, segment_size, c, incarnation, incarnation_at_c, .. } = *self.superblock;
        let (mut at, mut last, mut out) = (c, incarnation_at_c, Vec::new());
        let mut open: Option<(u64, Vec<u8>)> = None;
        loop {
            let number = at / segment_size;
            if open.as_ref().is_none_or(|(n, _)| *n != number) {
                open = Some((number, self.segment(number).expect("the segment behind the newest in use is there")));
            }
            let flush = open.as_ref().and_then(|(_, segment)| self.flush_at(at, segment));
            let Some(flush) = flush.filter(|f| f.incarnation >= last) else { break };
            assert!(flush.incarnation <= incarnation);
            last = flush.incarnation;
            at += (flush.bytes.len() as u64).next_multiple_of(block as u64);
            out.push(flush);
        }
        self.check_gap(at);
        assert!(!self.superblock.clean || at == c, "the log holds nothing from C on");
        (out, at)
    }

    /// No flush behind the gap says that the log was durable beyond it.
    fn check_gap(&self, gap: u64) {
        let Superblock { block, segment_size, incarnation_at_c, a, .. } = *self.superblock;
        assert!(a <= gap, "A is not beyond the log's end");
        for number in gap / segment_size.. {
            let Some(segment) = self.segment(number) else { break };
            for at in (0..segment_size).step_by(block).map(|offset| number * segment_size + offset) {
                let flush = self.flush_at(at, &segment).filter(|f| at > gap && f.incarnation >= incarnation_at_c);
                assert!(flush.is_none_or(|f| f.durable <= gap), "the log was durable beyond {gap}, where it ends");
            }
        }
    }

    /// The whole records from C on, and how many flushes carry none.
    pub(crate) fn records(&self) -> (Vec<Record>, usize) {
        let (flushes, _) = self.flushes();
        let empty = flushes.iter().filter(|f| f.bytes.len() == 64).count();
        // The stream from the first record on: each byte with its position, cut where an incarnation ends.
        let begin = flushes.iter().position(|f| f.first != 0).unwrap_or(flushes.len());
        let mut records = Vec::new();
        let mut stream: Vec<(u64, u8)> = Vec::new();
        for (i, flush) in flushes.iter().enumerate().skip(begin) {
            if flushes[i - usize::from(i > 0)].incarnation != flush.incarnation {
                stream.clear();
            }
            let from = if i == begin { flush.first } else { 64 };
            if flush.first != 0 && i > begin {
                let pieces_end = self.first_record_is_right(&stream, flush);
                assert_eq!(pieces_end, flush.first, "first record of the flush at {}", flush.lsn);
            }
            stream.extend((from..flush.bytes.len()).map(|at| (flush.lsn + at as u64, flush.bytes[at])));
            while let Some(record) = self.take_record(&mut stream) {
                records.push(record);
            }
        }
        (records, empty)
    }

    /// Where the record that `stream` holds the start of ends in `flush`.
    fn first_record_is_right(&self, stream: &[(u64, u8)], flush: &Flush) -> usize {
        if stream.is_empty() {
            return 64;
        }
        let head: Vec<u8> = stream.iter().map(|s| s.1).chain(flush.bytes[64..].iter().copied()).take(4).collect();
        64 + u32_at(&head, 0) as usize + 8 - stream.len()
    }

    fn take_record(&self, stream: &mut Vec<(u64, u8)>) -> Option<Record> {
        let head: Vec<u8> = stream.iter().take(4).map(|s| s.1).collect();
        if head.len() < 4 {
            return None;
        }
        let len = u32_at(&head, 0) as usize;
        if stream.len() < len + 8 {
            return None;
        }
        let framed: Vec<(u64, u8)> = stream.drain(..len + 8).collect();
        let bytes: Vec<u8> = framed.iter().map(|f| f.1).collect();
        let (start, last) = (framed[0].0, framed[len + 7].0);
        let marker = 0x2E64_6E65 ^ (len as u32).rotate_left(16) ^ start as u32 ^ (start >> 32) as u32;
        assert_eq!(u32_at(&bytes, len + 4), marker, "end marker of the record at {start}");
        let flushes = 1 + framed.windows(2).filter(|w| w[0].0 + 1 != w[1].0).count();
        let crosses = start / self.superblock.segment_size != last / self.superblock.segment_size;
        Some(Record { lsn: last + 1, body: bytes[4..len + 4].to_vec(), flushes, crosses })
    }
}

/// Does to `trees` what a record says; gives how many operations of each code it has.
pub(crate) fn apply(body: &[u8], trees: &mut Trees, data: &mut Data, codes: &mut [u64; 9]) {
    let mut body = Bytes(body);
    assert_eq!(body.byte(), 1, "format of a record");
    while !body.0.is_empty() {
        let (code, tree) = (body.byte(), body.varint());
        codes[usize::from(code)] += 1;
        match code {
            1 => {
                let (key, value) = (body.string().to_vec(), body.string().to_vec());
                change(trees, tree, |entries| drop(entries.insert(key, value)));
            }
            2 => {
                let key = body.string();
                change(trees, tree, |entries| drop(entries.remove(key)));
            }
            3 => {
                let range = (bound(&mut body), bound(&mut body));
                change(trees, tree, |entries| entries.retain(|key, _| !std::ops::RangeBounds::contains(&range, key)));
            }
            4 => drop(trees.insert(tree, (text(body.string()), Entries::new()))),
            5 => {
                let (name, _) = trees.remove(&tree).expect("a tree that is dropped");
                assert_eq!(name, text(body.string()));
            }
            6 => {
                let (name, _) = trees.remove(&tree).expect("a tree that is replaced");
                let new = body.varint();
                assert_eq!(name, text(body.string()));
                trees.insert(new, (name, Entries::new()));
            }
            7 => {
                let (key, len) = (body.string().to_vec(), body.varint() as usize);
                let runs: Vec<(u64, u32)> = (0..body.varint()).map(|_| (body.varint(), (body.u64(), body.u32())).1).collect();
                let value = data.logged_blob(len, &runs);
                change(trees, tree, |entries| drop(entries.insert(key, value)));
            }
            8 => {
                let (name, old) = trees.remove(&tree).expect("a tree that is replaced");
                assert!(old.is_empty(), "only an empty keyspace is loaded");
                let (new, root, count) = (body.varint(), body.varint(), body.varint());
                assert_eq!(name, text(body.string()));
                let mut page = 0;
                for _ in 0..body.varint() {
                    page += body.varint();
                    data.add_to_map(page, body.u64());
                }
                let entries = data.entries(new, root);
                assert_eq!(entries.len() as u64, count);
                trees.insert(new, (name, entries));
            }
            _ => unreachable!("operation {code}"),
        }
    }
}

/// An operation on a tree that is gone has no effect.
fn change(trees: &mut Trees, tree: u64, how: impl FnOnce(&mut Entries)) {
    if let Some((_, entries)) = trees.get_mut(&tree) {
        how(entries);
    }
}

fn bound(body: &mut Bytes<'_>) -> Bound<Vec<u8>> {
    match body.byte() {
        0 => Bound::Unbounded,
        1 => Bound::Included(body.string().to_vec()),
        2 => Bound::Excluded(body.string().to_vec()),
        other => unreachable!("bound {other}"),
    }
}

/// A name.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("a name in UTF-8")
}
