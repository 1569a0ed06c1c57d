//! Pages that come, go and move while others look (`bufferpool/src/{page_table,load,evict,hold,change}.rs`): a pool of two frames, over
//! a store that knows what each page holds.

use super::Model;
use crate::PageId;
use crate::block_ptr::BlockPtr;
use crate::core::Core;
use crate::evict::Victim;
use crate::hold::{Hold, Reservation};
use crate::page_id::Epoch;
use crate::slot::{FrameId, Slot};
use crate::store::{Fate, Located, PageRead, PageStore, WriteBatch, WriteOrder};
use crate::sync::atomic::{Ordering::Relaxed, Ordering::Release, fence};
use crate::view::PageView;
use crate::words::Words;
use loom::thread::spawn;
use std::sync::Arc;

const A: PageId = PageId(0);
const B: PageId = PageId(1);
const FRAME: FrameId = FrameId(0);

/// Each word of page n is n + 1.
struct Store;

impl PageStore for Store {
    type Error = crate::memory::Error;

    fn locate(&self, page: PageId) -> Located {
        Located::At(BlockPtr::new(BlockPtr::ADDRESS_MIN + page.0, 1, 0).expect("in range"))
    }

    fn read(&self, page: PageId, _at: BlockPtr, frame: &Words) -> Result<(), Self::Error> {
        // As `PageRead::frame` asks for.
        fence(Release);
        frame.iter().for_each(|word| word.store(page.0 + 1, Relaxed));
        Ok(())
    }

    fn new_page_id(&self) -> PageId {
        unreachable!()
    }
    fn submit_reads(&self, _reads: Vec<PageRead<Self::Error>>) {
        unreachable!()
    }
    fn wait(&self, _until: &dyn Fn() -> bool) {
        unreachable!()
    }
    fn order(&self, _page: PageView<'_>) -> WriteOrder {
        unreachable!()
    }
    fn pack(&self, _page: PageId, _view: PageView<'_>, _out: &mut [u8]) -> usize {
        unreachable!()
    }
    fn write(&self, _batch: WriteBatch<Self::Error>) {
        unreachable!()
    }
    fn record(&self, _page: PageId, _epoch: Epoch, _at: BlockPtr, _fate: Fate) {}
    fn superseded(&self, _page: PageId, _at: BlockPtr, _epoch: Epoch) {}
    fn freed(&self, _page: PageId, _epoch: Epoch) {}
    fn retired(&self, _page: PageId, _epoch: Epoch) {}
}

/// A pool in whose first frame page A stands, clean and not held.
fn pool() -> Arc<Core<Store>> {
    let core = Arc::new(Core::new(2, 2, Store));
    drop(core.load(A, None).expect("no error"));
    assert!(is_in(&core, A, FRAME));
    core
}

fn is_in(core: &Core<Store>, page: PageId, frame: FrameId) -> bool {
    core.table.entry(page).is_some_and(|entry| entry.is_resident_in(frame))
}

fn holds(core: &Core<Store>, page: PageId) -> u32 {
    match core.table.entry(page).map(|entry| entry.slot()) {
        Some(Slot::Resident(frame)) => core.frames.get(frame).lock().holds,
        _ => 0,
    }
}

/// What an optimistic reader of A gets, where it is validated.
fn look(core: &Core<Store>) -> Option<u64> {
    let page = core.optimistic(A).ok()?;
    let (second, first) = (page.view().u64(8), page.view().u64(0));
    page.validate().then(|| {
        assert_eq!(first, second, "half a change");
        first
    })
}

/// A reader whose page's frame is given to another page does not take that for its own.
pub const REUSED: Model = Model {
    name: "pool: a page is read without a latch while its frame goes to another",
    preemptions: None,
    body: || {
        let core = pool();
        let evictor = spawn({
            let core = Arc::clone(&core);
            move || {
                assert_eq!(core.try_evict(FRAME), Victim::Evicted);
                drop(core.load(B, None).expect("no error"));
                assert!(is_in(&core, B, FRAME));
            }
        });
        assert!(matches!(look(&core), None | Some(1)));
        evictor.join().unwrap();
    },
};

/// A page that is held stays, and one that was evicted is not held.
pub const HELD: Model = Model {
    name: "pool: a page is held while it is evicted",
    preemptions: None,
    body: || {
        let core = pool();
        let holder = spawn({
            let core = Arc::clone(&core);
            move || {
                if let Some(hold) = Hold::take(&core, A, FRAME) {
                    assert!(is_in(&core, A, FRAME) && core.optimistic(A).is_ok(), "held and gone");
                    assert!(matches!(look(&core), None | Some(1)));
                    drop(hold);
                }
            }
        });
        let victim = core.try_evict(FRAME);
        assert_eq!(victim == Victim::Evicted, !is_in(&core, A, FRAME));
        holder.join().unwrap();
        assert_eq!(holds(&core, A), 0);
    },
};

/// Two who want the same page read it once, and both have it.
pub const LOADED: Model = Model {
    name: "pool: two load a page",
    preemptions: Some(3),
    body: || {
        let core = Arc::new(Core::new(2, 2, Store));
        let other = spawn({
            let core = Arc::clone(&core);
            move || drop(core.load(A, None).expect("no error"))
        });
        let hold = core.load(A, None).expect("no error");
        assert!(core.optimistic(A).is_ok() && matches!(look(&core), None | Some(1)));
        drop(hold);
        other.join().unwrap();
        assert_eq!((holds(&core, A), core.free.len()), (0, 1), "one frame is in use");
    },
};

/// A frozen page goes on in a copy: holds go with it, and readers see one state or the other.
pub const COPIED: Model = Model {
    name: "pool: a frozen page is changed in a copy while it is held and read",
    preemptions: Some(4),
    body: || {
        let core = pool();
        change(&core, 1);
        core.turn();
        let other = spawn({
            let core = Arc::clone(&core);
            move || {
                let hold = Hold::take(&core, A, FRAME);
                assert!(matches!(look(&core), None | Some(1 | 7)));
                drop(hold);
            }
        });
        change(&core, 7);
        assert!(is_in(&core, A, FrameId(1)) && core.frames.view(FRAME).u64(8) == 1, "the old frame is as it was");
        other.join().unwrap();
        assert_eq!((holds(&core, A), look(&core)), (0, Some(7)));
    },
};

/// What write-back and the loader after it do with a detached frame, at once: it is packed, written, free, and given to B.
fn write_and_reuse(core: &Arc<Core<Store>>) {
    let mut body = core.frames.get(FRAME).lock();
    if !body.state.is_detached() {
        return;
    }
    let (packed, _) = body.state.pack().expect("detached");
    core.set_state(FRAME, &mut body, packed);
    let written = packed.written(BlockPtr::LOWEST).expect("in flight");
    core.set_state(FRAME, &mut body, written.next);
    drop(body);
    core.free.put(FRAME);
    drop(core.load(B, None).expect("no error"));
    assert!(is_in(core, B, FRAME));
}

/// A frame whose page has moved to a copy may be free, and another page's, as soon as that shows.
pub const DETACHED: Model = Model {
    name: "pool: the frame that a copy leaves is written and reused at once",
    preemptions: None,
    body: || {
        let core = pool();
        change(&core, 1);
        core.turn();
        let other = spawn({
            let core = Arc::clone(&core);
            move || write_and_reuse(&core)
        });
        change(&core, 7);
        other.join().unwrap();
    },
};

/// The same where its page was freed.
pub const FREED: Model = Model {
    name: "pool: the frame that a freed page leaves is written and reused at once",
    preemptions: None,
    body: || {
        let core = pool();
        change(&core, 1);
        core.turn();
        let other = spawn({
            let core = Arc::clone(&core);
            move || write_and_reuse(&core)
        });
        core.discard(A).expect("resident");
        other.join().unwrap();
    },
};

/// Makes both words `value`, in the current epoch.
fn change(core: &Core<Store>, value: u64) {
    let mut frames = Reservation::empty(core);
    assert!(core.free.reserve(1, frames.frames_mut(), |_| true));
    let mut page = core.exclusive(A, &mut frames).expect("resident");
    page.put_u64(0, value);
    page.put_u64(8, value);
}
