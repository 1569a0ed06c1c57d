//! Panics of simulated threads: kept for the run's report, with their place, instead of printed by a thread that nobody knows.

use super::context;
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic;
use std::sync::Once;

/// What ends a thread of a run that is over: unwinds it, is no failure, and is never printed.
pub(super) struct RunIsOver;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Puts a hook before the process's own one; it takes note of panics in simulated threads only.
pub(super) fn install_hook() {
    static ONCE: Once = Once::new();
    // Changing the hook is refused to a thread that panics.
    if std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A second panic while the first one unwinds ends the process: that one must be seen.
            let second = LAST.with_borrow(Option::is_some);
            if !context::simulated() || second {
                return previous(info);
            }
            let text = info.payload_as_str().unwrap_or("(no text)");
            let place = info.location().map(|l| format!(" at {l}")).unwrap_or_default();
            let trace = Backtrace::capture();
            let trace = if trace.status() == BacktraceStatus::Captured { format!("\n{trace}") } else { String::new() };
            LAST.set(Some(format!("{text}{place}{trace}")));
        }));
    });
}

/// Forgets what an earlier thread or a caught panic left.
pub(super) fn forget() {
    LAST.set(None);
}

/// What the panic said that ended the calling thread with `payload`; `None` if it only was told that the run is over.
pub(super) fn message(payload: &(dyn Any + Send)) -> Option<String> {
    let noted = LAST.take();
    if payload.is::<RunIsOver>() {
        return None;
    }
    Some(noted.unwrap_or_else(|| crate::sync::thread::message_of(payload)))
}
