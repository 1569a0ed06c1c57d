//! Mistakes on purpose: operations of an included file are weakened or left out, while a model runs.
//!
//! The operation is named by its text in the file (of several lines the last one), so that no file has a switch for it and none can
//! be missed: a text that does not stand in the file exactly once is an error.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::atomic::Ordering;

/// A file of the engine.
#[derive(Clone, Copy)]
pub struct Source {
    path: &'static str,
    text: &'static str,
}

macro_rules! source {
    ($name:ident $path:literal) => {
        #[expect(missing_docs, reason = "the name says it")]
        pub const $name: Source = Source { path: $path, text: include_str!(concat!("../../../", $path)) };
    };
}

/// The store of the pool's models, in which a fence stands that the pool asks of every store.
pub const STORE: Source = Source { path: "src/models/pool.rs", text: include_str!("models/pool.rs") };
source!(LATCH "bufferpool/src/latch.rs");
source!(SLOTS "engine/src/versions/slots.rs");
source!(LIST "engine/src/versions/list.rs");
source!(VISIBILITY "engine/src/commit/visibility.rs");

/// What becomes of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutated {
    /// It is done as it stands.
    No,
    /// It is done with this ordering.
    To(Ordering),
    /// It is not done (a load is, relaxed; a compare-exchange pretends to have succeeded).
    LeftOut,
}

struct Mutation {
    path: &'static str,
    line: u32,
    to: Mutated,
}

thread_local! {
    /// A model runs on the thread that asked for it.
    static CURRENT: RefCell<Vec<Mutation>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with operations mutated, each named by its file and text.
pub fn with<R>(mutations: &[(Source, &str, Mutated)], body: impl FnOnce() -> R) -> R {
    let located = mutations.iter().map(|&(source, text, to)| Mutation { path: source.path, line: line_of(source, text), to });
    CURRENT.set(located.collect());
    let result = body();
    CURRENT.take();
    result
}

/// The line on which `text` ends.
fn line_of(source: Source, text: &str) -> u32 {
    let code = source.text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = code.match_indices(text);
    match (found.next(), found.next()) {
        (Some((at, _)), None) => code[..at + text.len()].lines().count() as u32,
        (first, _) => panic!("{text:?} stands {} in {}", if first.is_some() { "more than once" } else { "nowhere" }, source.path),
    }
}

/// What becomes of the operation that calls.
#[track_caller]
pub fn here() -> Mutated {
    let caller = Location::caller();
    CURRENT.with_borrow(|current| {
        let mut meant = current.iter().filter(|m| m.line == caller.line() && caller.file().ends_with(m.path));
        meant.next().map_or(Mutated::No, |m| m.to)
    })
}
