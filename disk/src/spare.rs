//! Aligned memory that is used again: large transfers would otherwise have the kernel map, clear and unmap theirs each time, which
//! costs about as much as a checksum of it.
//!
//! 1. What lies idle is bounded in bytes. Where one more would be too much, those that have been idle longest go back to the allocator.
//! 2. A buffer that was taken holds what its last user left there: whoever takes one fills all that it gives out. (Where debug
//!    assertions are on, what lies idle is overwritten.)
//! 3. Giving back never waits: if the list is locked just then, the memory goes back to the allocator. So a child made by `fork` can
//!    drop a buffer whatever the parent's threads were doing.
//!
//! A buffer comes back by being dropped, whoever drops it: see [`AlignedBuf`].

use crate::AlignedBuf;
use crate::buffer::{BLOCK_SIZE_MIN, Memory};
use std::sync::{Arc, Mutex, PoisonError};

/// A bounded set of idle buffers.
#[derive(Debug)]
pub struct Spares {
    max: usize,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The one that came last is used first: its memory may still be in the processor's caches.
    buffers: Vec<Memory>,
    bytes: usize,
}

impl Spares {
    /// An empty set that keeps up to `max` bytes idle.
    pub fn new(max: usize) -> Arc<Spares> {
        Arc::new(Spares { max, idle: Mutex::default() })
    }

    /// A buffer of at least `len` bytes, longer by less than a quarter and 4096 bytes, with anything in it (2).
    pub fn take(self: &Arc<Spares>, len: usize) -> AlignedBuf {
        let class = class_of(len);
        let idle = self.take_idle(class);
        AlignedBuf::at_home(idle.unwrap_or_else(|| Memory::zeroed(class)), self.clone())
    }

    /// Bytes that lie idle.
    pub fn idle_bytes(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    fn take_idle(&self, class: usize) -> Option<Memory> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.buffers.iter().rposition(|memory| memory.len() == class)?;
        idle.bytes -= class;
        Some(idle.buffers.remove(found))
    }

    /// Keeps memory for the next who takes some, if it may (1, 3).
    pub(crate) fn give_back(&self, mut memory: Memory) {
        if cfg!(debug_assertions) {
            memory.bytes_mut().fill(0xDB);
        }
        if memory.len() > self.max {
            return;
        }
        let Ok(mut idle) = self.idle.try_lock() else { return };
        let mut too_much = Vec::new();
        while idle.bytes + memory.len() > self.max {
            let oldest = idle.buffers.remove(0);
            idle.bytes -= oldest.len();
            too_much.push(oldest);
        }
        idle.bytes += memory.len();
        idle.buffers.push(memory);
        // Unmapping takes its time: nobody waits for it.
        drop(idle);
        drop(too_much);
    }
}

/// Lengths come in classes, so that what one has left serves another: four between two powers of two.
fn class_of(len: usize) -> usize {
    let step = (len.max(1).next_power_of_two() / 8).max(BLOCK_SIZE_MIN);
    len.max(1).next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_taken_again() {
        let spares = Spares::new(1 << 20);
        let buf = spares.take(300_000);
        assert_eq!((buf.len(), spares.idle_bytes()), (327_680, 0));
        let at = buf.as_ptr();
        drop(buf);
        assert_eq!(spares.idle_bytes(), 327_680);
        let other = spares.take(400_000);
        assert_ne!(other.as_ptr(), at, "of another class");
        let again = spares.take(327_680);
        assert_eq!((again.as_ptr(), spares.idle_bytes()), (at, 0));
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let spares = Spares::new(3 * 4096);
        let buffers: Vec<_> = (0..5).map(|_| spares.take(4096)).collect();
        drop(buffers);
        assert_eq!(spares.idle_bytes(), 3 * 4096);
        drop(spares.take(8 * 4096));
        assert_eq!(spares.idle_bytes(), 3 * 4096);
        // What came last stays.
        let newest = spares.take(2 * 4096);
        let at = newest.as_ptr();
        drop(newest);
        assert_eq!((spares.idle_bytes(), spares.take(2 * 4096).as_ptr()), (3 * 4096, at));
        assert_eq!(spares.idle_bytes(), 3 * 4096);
    }

    #[test]
    fn nobody_waits_to_give_back() {
        let spares = Spares::new(1 << 20);
        let buf = spares.take(4096);
        let locked = spares.idle.lock().unwrap();
        drop(buf);
        assert_eq!(locked.bytes, 0);
    }

    #[test]
    fn classes_hold_what_is_asked_for_and_little_more() {
        for len in [0, 1, 4096, 4097, 65_535, 65_537, 1 << 20, (1 << 20) + 1, 9_000_000] {
            let class = class_of(len);
            assert!(class >= len && class.is_multiple_of(4096) && class < len + len / 4 + 4097, "{len}: {class}");
            assert_eq!(class_of(class), class);
        }
    }
}
