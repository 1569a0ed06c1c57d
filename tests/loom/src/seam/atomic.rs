//! Stands in for `ashlar_disk::sync::atomic`: loom's atomics, whose operations a [`mutation`] may weaken or leave out.

use crate::mutation::{self, Mutated};
pub use loom::hint::spin_loop;
pub use std::sync::atomic::Ordering;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

/// loom's thread-locals: its threads all run on one thread of the system.
macro_rules! local {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = const { $init:expr };) => {
        loom::thread_local! {
            $(#[$attribute])* static $name: $type = $init;
        }
    };
}
pub(crate) use local as thread_local;

/// Never: whoever waits parks at once, which is what a model is about.
pub fn spin(_rounds: &mut u32) -> bool {
    false
}

/// A fence.
#[track_caller]
pub fn fence(order: Ordering) {
    if mutation::here() == Mutated::No {
        loom::sync::atomic::fence(order);
    }
}

/// How an access is to be done. `None`: it is left out.
#[track_caller]
fn prepared(order: Ordering) -> Option<Ordering> {
    match mutation::here() {
        Mutated::No => Some(order),
        Mutated::To(weaker) => Some(weaker),
        Mutated::LeftOut => None,
    }
}

/// The sequentially consistent accesses of one atomic, which loom does not order by itself. A store, once done, notes itself here; a
/// load looks here first, and then can't miss a store that was noted. Both are read-modify-writes of one word, so they have an order,
/// and all orders are explored. A store that is not sequentially consistent is not noted, and one that is is no fence for others.
#[derive(Debug)]
struct Consistent(loom::sync::atomic::AtomicUsize);

impl Consistent {
    fn loads(&self, order: Ordering) {
        if order == SeqCst {
            self.0.fetch_add(1, Acquire);
        }
    }

    fn stored(&self, order: Ordering) {
        if order == SeqCst {
            self.0.fetch_add(1, Release);
        }
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty, $($operation:ident)*) => {
        #[doc = concat!("loom's `", stringify!($name), "`.")]
        #[derive(Debug)]
        pub struct $name {
            value: loom::sync::atomic::$name,
            consistent: Consistent,
        }

        #[expect(missing_docs, clippy::missing_errors_doc, reason = "as in std")]
        impl $name {
            #[track_caller]
            pub fn new(value: $value) -> $name {
                let consistent = Consistent(loom::sync::atomic::AtomicUsize::new(0));
                $name { value: loom::sync::atomic::$name::new(value), consistent }
            }

            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                let order = prepared(order).unwrap_or(Relaxed);
                self.consistent.loads(order);
                self.value.load(order)
            }

            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                if let Some(order) = prepared(order) {
                    self.value.store(value, order);
                    self.consistent.stored(order);
                }
            }

            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                let Some(order) = prepared(order) else { return self.value.load(Relaxed) };
                let before = self.value.swap(value, order);
                self.consistent.stored(order);
                before
            }

            #[track_caller]
            pub fn compare_exchange(&self, from: $value, to: $value, order: Ordering, other: Ordering) -> Result<$value, $value> {
                let Some(order) = prepared(order) else { return Ok(from) };
                let before = self.value.compare_exchange(from, to, order, other)?;
                self.consistent.stored(order);
                Ok(before)
            }

            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                from: $value,
                to: $value,
                order: Ordering,
                other: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(from, to, order, other)
            }

            $(
                #[track_caller]
                pub fn $operation(&self, value: $value, order: Ordering) -> $value {
                    let Some(order) = prepared(order) else { return self.value.load(Relaxed) };
                    let before = self.value.$operation(value, order);
                    self.consistent.stored(order);
                    before
                }
            )*
        }
    };
}

atomic!(AtomicU64, u64, fetch_add fetch_sub fetch_max fetch_and);
atomic!(AtomicUsize, usize, fetch_max);
