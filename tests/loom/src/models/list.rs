//! The list of before-images (`engine/src/versions/list.rs`), alone and with the mark of a snapshot that is taken away.

use super::Model;
use crate::epoch;
use crate::fault::Fault;
use crate::page_id::PageId;
use crate::versions::slots::{Kind, Slots};
use before_images::{Entry, List};
use loom::sync::Arc;
use loom::thread::spawn;

#[path = "../../../../engine/src/versions/list.rs"]
#[allow(dead_code, clippy::all, reason = "the one of `versions` is private there")]
mod before_images;

fn entry(lsn: u64) -> Entry {
    Entry::new(PageId(1), lsn, b"key", Some((0, &[lsn as u8])))
}

/// What a reader meets, whole.
fn met(list: &List) -> Vec<u64> {
    let guard = epoch::pin();
    let whole = |e: &Entry| e.key() == b"key" && e.before() == Some((0, &[e.lsn as u8][..]));
    list.iter(&guard).inspect(|e| assert!(whole(e), "half an entry")).map(|e| e.lsn).collect()
}

/// A reader meets entries in order, all that were there and stay, and none that is gone.
pub const LIST: Model = Model {
    name: "list: a reader, a writer that adds, adds in the middle and cuts",
    preemptions: None,
    body: || {
        let list = Arc::new(List::default());
        {
            let guard = epoch::pin();
            list.insert(entry(2), &guard);
            list.insert(entry(4), &guard);
        }
        let reader = spawn({
            let list = Arc::clone(&list);
            move || {
                let met = met(&list);
                assert!(met.is_sorted_by(|a, b| a > b) && met.contains(&4), "{met:?}");
            }
        });
        list.insert(entry(5), &epoch::pin());
        list.insert(entry(3), &epoch::pin());
        assert!(list.cut(2, &epoch::pin()) > 0);
        assert_eq!(met(&list), [5, 4, 3]);
        reader.join().unwrap();
    },
};

/// A reader that finds its slot unmarked after having read has read what it should.
pub const MARK: Model = Model {
    name: "list: a snapshot is marked before what it needs is cut",
    preemptions: None,
    body: || {
        let slots = Slots::new(Fault::None);
        let claim = slots.claim(Kind::Reads, || 1);
        let shared = Arc::new((List::default(), slots));
        shared.0.insert(entry(2), &epoch::pin());
        let reader = spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (list, slots) = &*shared;
                let met = met(list);
                assert!(met == [2] || slots.is_gone(&claim), "{met:?}");
                slots.release(&claim);
            }
        });
        let (list, slots) = &*shared;
        // Pinned before: the fence of pinning must not order the mark and the cut.
        let guard = epoch::pin();
        if slots.take_oldest_away(2, None) {
            list.cut(2, &guard);
        }
        drop(guard);
        reader.join().unwrap();
    },
};
