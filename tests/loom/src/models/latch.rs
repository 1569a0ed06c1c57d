//! The latch of a page (`bufferpool/src/latch.rs`), with the words and the memory that it protects.

use super::Model;
use crate::latch::Latch;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread::spawn;

struct Page {
    latch: AtomicU64,
    a: AtomicU64,
    b: AtomicU64,
    /// Memory that is read as a plain slice under the latch.
    plain: UnsafeCell<u64>,
}

impl Page {
    fn new() -> Arc<Page> {
        let [latch, a, b] = [0; 3].map(AtomicU64::new);
        Arc::new(Page { latch, a, b, plain: UnsafeCell::new(0) })
    }

    fn change_words(&self) {
        let latch = Latch::over(&self.latch);
        latch.lock_exclusive();
        let value = self.a.load(Relaxed) + 1;
        self.a.store(value, Relaxed);
        self.b.store(value, Relaxed);
        latch.unlock_changed();
    }

    fn change_plain(&self) {
        let latch = Latch::over(&self.latch);
        latch.lock_exclusive();
        // SAFETY: nobody else is in here; loom checks that.
        self.plain.with_mut(|value| unsafe { *value += 1 });
        latch.unlock_changed();
    }

    fn look_exclusively(&self) {
        let latch = Latch::over(&self.latch);
        latch.lock_exclusive();
        // SAFETY: nobody else is in here; loom checks that.
        self.plain.with(|value| unsafe { assert!(*value <= 2) });
        latch.unlock_unchanged();
    }

    fn share_plain(&self) {
        let latch = Latch::over(&self.latch);
        latch.lock_shared();
        // SAFETY: nobody changes it meanwhile; loom checks that.
        self.plain.with(|value| unsafe { assert!(*value <= 2) });
        latch.unlock_shared();
    }
}

/// What an optimistic reader has validated is one state of the page; a reader that begins later sees no older one.
pub const OPTIMISTIC: Model = Model {
    name: "latch: optimistic reader, writer of two changes",
    preemptions: Some(3),
    body: || {
        let page = Page::new();
        let writer = spawn({
            let page = Arc::clone(&page);
            move || {
                page.change_words();
                page.change_words();
            }
        });
        let mut seen = 0;
        for _ in 0..2 {
            let latch = Latch::over(&page.latch);
            let version = latch.version();
            let (b, a) = (page.b.load(Relaxed), page.a.load(Relaxed));
            if latch.validate(version) {
                assert_eq!(a, b, "half a change");
                assert!(a >= seen, "back in time");
                seen = a;
            }
        }
        writer.join().unwrap();
        let latch = Latch::over(&page.latch);
        assert!(latch.validate(latch.version()) && page.a.load(Relaxed) == 2);
    },
};

/// Writers exclude each other and sharers; whoever parks is woken.
pub const EXCLUSION: Model = Model {
    name: "latch: two writers and a sharer, parking",
    preemptions: Some(3),
    body: || {
        let page = Page::new();
        let threads = [Page::change_plain, Page::share_plain].map(|step: fn(&Page)| {
            let page = Arc::clone(&page);
            spawn(move || step(&page))
        });
        page.change_plain();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        page.share_plain();
    },
};

/// Two sharers and a writer: the last sharer wakes the writer, which wakes sharers.
pub const SHARERS: Model = Model {
    name: "latch: a writer and two sharers, parking",
    preemptions: Some(3),
    body: || {
        let page = Page::new();
        let threads = [(); 2].map(|()| {
            let page = Arc::clone(&page);
            spawn(move || page.share_plain())
        });
        page.change_plain();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        page.share_plain();
    },
};

/// Whoever parks behind a writer is woken, whether that has changed anything or not. It is the first thread that parks: loom can't
/// unwind another one that does for ever.
pub const PARKED: Model = Model {
    name: "latch: one parks behind a writer",
    preemptions: Some(4),
    body: || {
        let page = Page::new();
        let writer = spawn({
            let page = Arc::clone(&page);
            move || {
                page.change_plain();
                page.look_exclusively();
            }
        });
        page.share_plain();
        page.share_plain();
        writer.join().unwrap();
    },
};

/// An exclusive holder that has only looked is ordered before the next one, too.
pub const UNCHANGED: Model = Model {
    name: "latch: one looks exclusively, one changes",
    preemptions: None,
    body: || {
        let page = Page::new();
        let looker = spawn({
            let page = Arc::clone(&page);
            move || page.look_exclusively()
        });
        page.change_plain();
        looker.join().unwrap();
    },
};
