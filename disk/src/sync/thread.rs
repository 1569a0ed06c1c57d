//! Threads.

use super::simulation::{self, Handle, Wait};
use crate::{Error, Op, Result};
use std::panic::Location;
use std::path::Path;
use std::time::Duration;

/// A thread ended by a panic, with what it said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("thread {thread} panicked: {message}")]
pub struct Panicked {
    /// The thread's name.
    pub thread: String,
    /// The panic's message, as far as it is text; in a simulation also its place.
    pub message: String,
}

/// A started thread. Dropping the handle lets it run on by itself.
#[derive(Debug)]
pub struct JoinHandle {
    name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Real(std::thread::JoinHandle<()>),
    Simulated(Handle),
}

/// Starts a thread. The operating system's refusal is an [`Error::Io`] of [`Op::Thread`] that names the thread.
#[track_caller]
pub fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> Result<JoinHandle> {
    let kind = if simulation::simulated() {
        let place = Location::caller();
        simulation::with(|context| context.spawn(name, Box::new(f), place)).map(Kind::Simulated)
    } else {
        std::thread::Builder::new().name(name.to_owned()).spawn(f).map(Kind::Real)
    };
    let kind = kind.map_err(|e| Error::from_io(Op::Thread, Path::new(name), None, &e))?;
    Ok(JoinHandle { name: name.to_owned(), kind })
}

impl JoinHandle {
    /// Waits for the thread's end.
    #[track_caller]
    pub fn join(self) -> std::result::Result<(), Panicked> {
        match self.kind {
            Kind::Real(handle) => handle.join().map_err(|payload| Panicked { thread: self.name, message: message_of(&*payload) }),
            Kind::Simulated(handle) => handle.join(Location::caller()),
        }
    }

    /// Whether the thread has ended, so that [`join`](Self::join) would not wait.
    pub fn is_finished(&self) -> bool {
        match &self.kind {
            Kind::Real(handle) => handle.is_finished(),
            Kind::Simulated(handle) => handle.is_finished(),
        }
    }

    /// The thread's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The text of a panic's payload.
pub(super) fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)").to_owned()
}

/// A [`yield_point`] where a simulation now and then holds the thread up until hardly anybody else can run: for gaps between two steps of
/// a protocol that only matter when very much happens within them. Nothing in production.
#[inline]
#[track_caller]
pub fn stall_point() {
    if simulation::simulated() {
        let place = Location::caller();
        simulation::with(|context| match context.random_u64() % STALL_ONE_IN {
            0 => drop(context.block(Wait::Sleep, Some(STALL), place)),
            _ => context.switch(place),
        });
    }
}

/// The clock moves only when no thread can run, so that any time is long.
const STALL: Duration = Duration::from_micros(1);

/// Of how many points one holds its thread up.
const STALL_ONE_IN: u64 = 16;

/// A point where a simulation may switch threads; nothing in production.
#[inline]
#[track_caller]
pub fn yield_point() {
    if simulation::simulated() {
        let place = Location::caller();
        simulation::with(|context| context.switch(place));
    }
}
