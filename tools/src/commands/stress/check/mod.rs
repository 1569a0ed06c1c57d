//! Whether what a crash has left is what it may leave.
//!
//! 1. What each writer has left is a prefix of its commits ([`writers`]).
//! 2. Every commit that was confirmed `Immediate` is there, and every one that had ended before such a one, or a flush or checkpoint
//!    that was confirmed, began.
//! 3. If a commit is there, every one that had ended before it began is there: across writers, too.
//! 4. Transactions count; those that are there are those with the lowest counts, and accounts hold what they have moved.
//! 5. Nothing else is there, every byte is right, and verification finds nothing.

pub(super) mod found;
mod history;
#[cfg(test)]
mod history_tests;
mod state;
mod writers;

pub(super) use history::{History, Survivors};

use super::journal::Event;
use super::plan::Plan;
use ashlardb::{Create, Database};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Opens what a crash has left, compares and verifies everything. What has survived is the history's new beginning.
///
/// # Errors
/// What is wrong.
pub(super) fn look(plan: &Plan, history: &mut History) -> Result<Survivors, String> {
    if !plan.db.join("data").exists() && !history.must_be_there() {
        // Nothing was confirmed before the database was whole.
        return history.settle(state::State::default());
    }
    let create = if history.must_be_there() { Create::Never } else { Create::IfMissing };
    let db = plan.options().create(create).open(&plan.db).map_err(|e| format!("opening what was left: {e}"))?;
    let found = found::read(&db)?;
    let survivors = history.settle(found)?;
    verify(&db)?;
    if plan.life.is_multiple_of(3) {
        db.close().map_err(|e| format!("closing: {e}"))?;
    }
    Ok(survivors)
}

fn verify(db: &Database) -> Result<(), String> {
    let report = db.verify().map_err(|e| format!("verify: {e}"))?;
    if report.is_clean() { Ok(()) } else { Err(super::load::findings(&report)) }
}

/// What is to be checked, by a process of its own: one that hangs can be killed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// With which options, and in which directory.
    pub(super) plan: Plan,
    /// A file with all that was told, from the first life on.
    pub(super) told: PathBuf,
}

/// The checking process's part: its answer.
pub(super) fn answer(task: &Task) -> Result<Survivors, String> {
    let bytes = std::fs::read(&task.told).map_err(|e| format!("reading {}: {e}", task.told.display()))?;
    let mut history = History::new(task.plan.seed, task.plan.size);
    history.hear_all(super::journal::events(&bytes)?);
    let survivors = look(&task.plan, &mut history)?;
    again(&task.plan, &mut history)?;
    Ok(survivors)
}

/// Once more after a clean end: what recovery has made of it is whole, too.
fn again(plan: &Plan, history: &mut History) -> Result<(), String> {
    if !plan.db.join("data").exists() {
        return Ok(());
    }
    let db = plan.options().create(Create::Never).open(&plan.db).map_err(|e| format!("opening it again: {e}"))?;
    let found = found::read(&db)?;
    history.settle(found).map(drop).map_err(|e| format!("opened again: {e}"))
}

impl History {
    /// All of these, one after the other.
    pub(super) fn hear_all(&mut self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.hear(event));
    }
}
