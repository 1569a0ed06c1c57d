//! The watermark (`engine/src/commit/visibility.rs`).

use super::Model;
use crate::commit::visibility::Visibility;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::sync::Arc;
use loom::thread::spawn;

struct Engine {
    visible: Visibility,
    /// What commits 1 and 2 write.
    written: [AtomicU64; 2],
    /// How far the log is on disk.
    on_disk: AtomicU64,
}

impl Engine {
    fn new() -> Arc<Engine> {
        let (written, on_disk) = ([0; 2].map(AtomicU64::new), AtomicU64::new(0));
        Arc::new(Engine { visible: Visibility::new(0), written, on_disk })
    }

    /// Applies both commits; the first one must be durable to be seen.
    fn apply(&self) {
        for (lsn, written) in (1..).zip(&self.written) {
            written.store(1, Relaxed);
            self.visible.applied(lsn, lsn == 1);
        }
    }

    fn flush(&self) {
        self.on_disk.store(2, Relaxed);
        self.visible.durable(2);
    }

    fn has_written(&self, lsn: u64) -> bool {
        self.written.iter().take(lsn as usize).all(|written| written.load(Relaxed) == 1)
    }
}

/// Whoever sees an LSN sees what all commits up to it have written, and that they are durable; it only rises.
pub const WATERMARK: Model = Model {
    name: "watermark: one applies, one flushes, one reads",
    preemptions: Some(3),
    body: || {
        let engine = Engine::new();
        let threads = [Engine::apply, Engine::flush].map(|step: fn(&Engine)| {
            let engine = Arc::clone(&engine);
            spawn(move || step(&engine))
        });
        let applied = engine.visible.newest_applied();
        assert!(engine.has_written(applied), "applied up to {applied}");
        let mut seen = 0;
        for _ in 0..2 {
            let lsn = engine.visible.watermark();
            assert!(lsn >= seen && engine.has_written(lsn), "{lsn} is seen");
            assert!(lsn == 0 || engine.on_disk.load(Relaxed) == 2, "{lsn} is seen and not durable");
            seen = lsn;
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(engine.visible.watermark(), 2);
    },
};

/// Whoever waits for an LSN is woken.
pub const WAIT: Model = Model {
    name: "watermark: one applies, one flushes, one waits",
    preemptions: Some(3),
    body: || {
        let engine = Engine::new();
        let threads = [Engine::apply, Engine::flush].map(|step: fn(&Engine)| {
            let engine = Arc::clone(&engine);
            spawn(move || step(&engine))
        });
        assert!(engine.visible.wait(2) && engine.has_written(2));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    },
};

/// Whoever waits in vain is woken.
pub const STOP: Model = Model {
    name: "watermark: one waits, one stops",
    preemptions: None,
    body: || {
        let engine = Engine::new();
        let stopper = spawn({
            let engine = Arc::clone(&engine);
            move || engine.visible.stop()
        });
        assert!(!engine.visible.wait(1));
        stopper.join().unwrap();
    },
};
