//! A history that failed: what is told of it, and the commands that repeat it.

use crate::error::Result;
use crate::output::{Output, remark};
use ashlar_tests::crash::minimize::{Smallest, minimize};
use ashlar_tests::crash::{Failure, Setup};
use serde_json::json;

/// A history that failed, and what was made of it.
pub(super) struct Failed {
    seed: u64,
    failure: Failure,
    command: String,
    smallest: Option<Smallest>,
}

impl Failed {
    /// Makes it smaller, if that is wanted.
    pub(super) fn new(seed: u64, setup: &Setup, failure: Failure, minimizing: bool) -> Failed {
        let as_it_was = Smallest { seed, setup: setup.clone(), failure: failure.clone(), runs: 0 };
        let command = format!("ashlar stress sim {}", as_it_was.options());
        let smallest = minimizing.then(|| {
            remark(format_args!("seed {seed} failed; making it smaller"));
            minimize(seed, setup, failure.clone())
        });
        Failed { seed, failure, command, smallest }
    }

    fn smaller(&self) -> Option<(String, &Smallest)> {
        self.smallest.as_ref().map(|smallest| (format!("ashlar stress sim {}", smallest.options()), smallest))
    }

    /// As JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        let smaller = self.smaller().map(|(command, smallest)| {
            json!({ "command": command, "failure": smallest.failure.to_string(), "histories_run": smallest.runs })
        });
        json!({ "seed": self.seed, "failure": self.failure.to_string(), "command": self.command, "smallest": smaller })
    }

    /// In words.
    pub(super) fn print(&self, out: &mut Output) -> Result<()> {
        out.line(format_args!("FAILED: seed {}: {}", self.seed, self.failure))?;
        out.line(format_args!("again:\n  {}", self.command))?;
        if let Some((command, smallest)) = self.smaller() {
            out.line(format_args!("\nsmaller, after {} histories: {}", smallest.runs, smallest.failure))?;
            out.line(format_args!("again:\n  {command}"))?;
        }
        Ok(())
    }
}
