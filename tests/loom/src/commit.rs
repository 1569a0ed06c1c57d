//! Stands in for the engine's module of this name, with two of its files.

#[path = "../../../engine/src/commit/recent.rs"]
#[allow(dead_code, clippy::all)]
mod recent;
#[path = "models/recent.rs"]
pub mod recent_models;
#[path = "../../../engine/src/commit/visibility.rs"]
#[allow(dead_code, clippy::all)]
pub(crate) mod visibility;

/// Why validation refuses a commit.
#[derive(Debug)]
#[expect(dead_code, reason = "as in the engine")]
pub(crate) enum Refused {
    Conflict(u64),
}
