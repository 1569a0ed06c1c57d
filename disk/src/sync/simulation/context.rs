//! Which simulated thread the calling thread is, if any.

use super::scheduler::Scheduler;
use super::worker::Worker;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

thread_local! {
    /// The one thing that production asks: constant at first and without a destructor, so that asking is one load.
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
    /// Some while `SIMULATED`.
    static CONTEXT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// The calling thread's place in its run.
pub(crate) struct Context {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) worker: Arc<Worker>,
    pub(super) index: usize,
}

/// Whether the calling thread belongs to a simulation.
#[inline]
pub(crate) fn simulated() -> bool {
    SIMULATED.get()
}

/// Asks the calling thread's context; the thread is a simulated one.
pub(crate) fn with<R>(f: impl FnOnce(&Context) -> R) -> R {
    CONTEXT.with_borrow(|context| f(context.as_ref().expect("there while `simulated()`")))
}

/// The calling thread becomes a simulated one.
pub(super) fn enter(context: Context) {
    CONTEXT.set(Some(context));
    SIMULATED.set(true);
}

/// The calling thread is a plain one again.
pub(super) fn leave() -> Option<Context> {
    SIMULATED.set(false);
    CONTEXT.take()
}
