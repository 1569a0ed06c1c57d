//! The horizon of those who read (`engine/src/versions/slots.rs`), with what is pruned by it (`engine/src/versions/mod.rs`).

use super::Model;
use crate::PageId;
use crate::fault::Fault;
use crate::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use crate::versions::slots::Kind;
use crate::versions::{Versions, Writer};
use loom::sync::Arc;
use loom::thread::spawn;

const PAGE: PageId = PageId(7);

/// A leaf with one key. What stands for its latch: the LSN is stored with Release and loaded with Acquire.
struct Leaf {
    lsn: AtomicU64,
    watermark: AtomicU64,
}

/// Reads the key in a snapshot of its own: what it held at 5 is "5", at 10 "10".
fn read(versions: &Versions, leaf: &Leaf) {
    let claim = versions.slots.claim(Kind::Reads, || leaf.watermark.load(Acquire));
    if leaf.lsn.load(Acquire) > claim.lsn() {
        let right = versions.before(PAGE, b"key", claim.lsn(), |found| found == Some(Some((0, &b"5"[..]))));
        assert!(right || versions.slots.is_gone(&claim), "a snapshot at {} has lost what it needs", claim.lsn());
    }
    versions.slots.release(&claim);
}

/// Commits at 10, and prunes.
fn commit(writer: &mut Writer, leaf: &Leaf) {
    writer.add(PAGE, 10, b"key", Some((0, b"5")));
    leaf.lsn.store(10, Release);
    leaf.watermark.store(10, Release);
    writer.prune(10);
}

fn run(limit: u64, fault: Fault) {
    let mut writer = Writer::new(1, limit, 5, fault);
    let versions = std::sync::Arc::clone(writer.versions());
    // The first slot is taken, by somebody who holds nothing back: the reader claims one that was never in use.
    let other = versions.slots.claim(Kind::Reads, || 100);
    let leaf = Arc::new(Leaf { lsn: AtomicU64::new(5), watermark: AtomicU64::new(5) });
    let reader = spawn({
        let (versions, leaf) = (std::sync::Arc::clone(&versions), Arc::clone(&leaf));
        move || read(&versions, &leaf)
    });
    commit(&mut writer, &leaf);
    reader.join().unwrap();
    writer.prune(10);
    assert_eq!(versions.entries(), 0, "nobody needs it any more");
    versions.slots.release(&other);
}

/// Of a reader that begins and a writer that prunes, one sees the other.
pub const SNAPSHOT: Model = Model {
    name: "horizon: a snapshot begins while its before-image is pruned",
    preemptions: None,
    body: || run(1000, Fault::None),
};

/// The same, with a reader that does not look whether the horizon has passed.
pub const NOT_REREAD: Model =
    Model { name: "horizon not read again", preemptions: None, body: || run(1000, Fault::HorizonNotReread) };

/// What a snapshot needs goes only after it was marked.
pub const TAKEN_AWAY: Model =
    Model { name: "horizon: a snapshot is taken away for memory", preemptions: Some(3), body: || run(0, Fault::None) };
