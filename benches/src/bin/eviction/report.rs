//! What the simulator has found, as Markdown or JSON.

use serde::Serialize;
use std::fmt::Write;

/// One policy on one trace with one size of cache.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) trace: String,
    pub(crate) policy: String,
    /// Of the pages, in percent.
    pub(crate) cache_percent: usize,
    pub(crate) frames: usize,
    /// Accesses that were counted: those after the warm-up.
    pub(crate) accesses: usize,
    pub(crate) hits: usize,
}

impl Outcome {
    fn misses(&self) -> usize {
        self.accesses - self.hits
    }

    fn hit_percent(&self) -> f64 {
        100.0 * self.hits as f64 / self.accesses as f64
    }
}

/// A table: a row for each trace and size, a column for each policy; the outcomes stand row by row, and the first two of each row are
/// the limit and the policy that is compared. The most hits below the limit are bold. The last column: how many more misses the compared
/// policy has than the best.
pub(crate) fn markdown(outcomes: &[Outcome], columns: usize) -> String {
    let mut out = String::from("| trace | cache |");
    for outcome in outcomes.iter().take(columns) {
        let _ = write!(out, " {} |", outcome.policy);
    }
    out.push_str(" misses beside the best |\n| --- | ---: |");
    out.push_str(&" ---: |".repeat(columns + 1));
    out.push('\n');
    for row in outcomes.chunks_exact(columns) {
        let best = row[1..].iter().map(Outcome::misses).min().unwrap_or(0);
        let _ = write!(out, "| {} | {} % |", row[0].trace, row[0].cache_percent);
        for (at, outcome) in row.iter().enumerate() {
            let mark = if at > 0 && outcome.misses() == best { "**" } else { "" };
            let _ = write!(out, " {mark}{:.2}{mark} |", outcome.hit_percent());
        }
        let more = 100.0 * (row[1].misses() as f64 / best.max(1) as f64 - 1.0);
        let _ = writeln!(out, " +{more:.1} % |");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_hits_the_best_and_the_distance() {
        let outcome = |policy: &str, hits| {
            let (trace, policy) = ("t".to_owned(), policy.to_owned());
            Outcome { trace, policy, cache_percent: 5, frames: 50, accesses: 1000, hits }
        };
        let row = [outcome("MIN", 900), outcome("Own", 780), outcome("A", 800), outcome("B", 0)];
        let lines: Vec<String> = markdown(&row, 4).lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "| trace | cache | MIN | Own | A | B | misses beside the best |");
        assert_eq!(lines[1], "| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
        assert_eq!(lines[2], "| t | 5 % | 90.00 | 78.00 | **80.00** | 0.00 | +10.0 % |");
    }
}
