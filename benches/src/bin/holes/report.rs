//! What the study has found, as Markdown.

use crate::study::{Found, Outcome};
use std::fmt::Write;

/// The device's time: a row for each case, a column for each policy; outcomes stand case by case. The least is bold. In brackets, where
/// pages were moved: the time of the writes alone, and pages written for each that was changed. A star: not steady.
pub(crate) fn times(outcomes: &[Outcome], columns: usize) -> String {
    let mut out = String::from("| updates | in use | batch |");
    for outcome in outcomes.iter().take(columns) {
        let _ = write!(out, " {} |", outcome.policy);
    }
    let _ = writeln!(out, "\n| --- | ---: | ---: |{}", " ---: |".repeat(columns));
    for row in outcomes.chunks_exact(columns) {
        let least = row.iter().filter_map(|outcome| outcome.found.as_ref()).map(time).fold(f64::INFINITY, f64::min);
        let _ = write!(out, "{}", head(&row[0]));
        for outcome in row {
            let Some(found) = &outcome.found else {
                out.push_str(" no room |");
                continue;
            };
            let mark = if time(found) == least { "**" } else { "" };
            let _ = write!(out, " {mark}{:.1}{mark}", time(found));
            if found.tally.moved > 0 {
                let _ = write!(out, " ({:.1}; {:.2})", found.write_us, found.written_a_page);
            }
            let _ = write!(out, "{} |", if found.steady { "" } else { "\\*" });
        }
        out.push('\n');
    }
    out
}

/// All figures: a row for each outcome.
pub(crate) fn details(outcomes: &[Outcome]) -> String {
    let mut out = String::from(
        "| updates | in use | batch | policy | writes a page | KiB a write | pages written a page | KiB read a page | µs writing | µs reading | pages a run | reads of 100 pages | extra checkpoints | turns | drift |\n",
    );
    let _ = writeln!(out, "| --- | ---: | ---: | --- |{}", " ---: |".repeat(11));
    for outcome in outcomes {
        let _ = write!(out, "{} {} |", head(outcome), outcome.policy);
        let Some(found) = &outcome.found else {
            let _ = writeln!(out, " no room |{}", " |".repeat(10));
            continue;
        };
        let _ = write!(out, " {:.3} | {:.1} |", found.transfers_a_page, found.kib_a_transfer);
        let _ = write!(out, " {:.2} | {:.1} |", found.written_a_page, found.read_kib_a_page);
        let _ = write!(out, " {:.1} | {:.1} |", found.write_us, found.read_us);
        let _ = write!(out, " {:.2} | {:.1} |", found.scan.pages_a_run, found.scan.reads_a_hundred);
        let star = if found.steady { "" } else { "\\*" };
        let _ = writeln!(out, " {} | {}{star} | {:.3} |", found.tally.extra_checkpoints, found.turns, found.drift);
    }
    out
}

fn head(outcome: &Outcome) -> String {
    format!("| {} | {} % | {} |", outcome.updates, outcome.used_percent, outcome.batch)
}

fn time(found: &Found) -> f64 {
    found.write_us + found.read_us
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{FreeRuns, Locality};
    use crate::tally::{Io, Tally};

    fn outcome(policy: &'static str, write_us: f64, read_us: f64, moved: u64) -> Outcome {
        let written = Io { transfers: 50, blocks: 100 + moved };
        let found = Found {
            tally: Tally { updated: 100, moved, written, ..Tally::default() },
            turns: 9,
            steady: moved != 7,
            drift: 0.0123,
            free_runs: FreeRuns::default(),
            scan: Locality { pages_a_run: 1.5, reads_a_hundred: 80.0 },
            transfers_a_page: 0.5,
            kib_a_transfer: 8.0,
            written_a_page: 1.0 + moved as f64 / 100.0,
            read_kib_a_page: 3.0,
            write_us,
            read_us,
        };
        Outcome { updates: "uniform", used_percent: 80.0, batch: 256, policy, found: Some(found) }
    }

    #[test]
    fn a_row_tells_times_and_the_least() {
        let none = Outcome { found: None, ..outcome("C", 0.0, 0.0, 0) };
        let row = [outcome("A", 9.0, 0.0, 0), outcome("B", 6.0, 2.5, 150), none, outcome("D", 10.0, 1.0, 7)];
        let lines: Vec<String> = times(&row, 4).lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "| updates | in use | batch | A | B | C | D |");
        assert_eq!(lines[1], "| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
        assert_eq!(lines[2], "| uniform | 80 % | 256 | 9.0 | **8.5** (6.0; 2.50) | no room | 11.0 (10.0; 1.07)\\* |");
    }

    #[test]
    fn details_have_as_many_columns_as_the_head() {
        let none = Outcome { found: None, ..outcome("C", 0.0, 0.0, 0) };
        let text = details(&[outcome("A", 9.0, 0.5, 0), none]);
        let bars: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(bars, [16, 16, 16, 16]);
        assert!(text.contains("| A | 0.500 | 8.0 | 1.00 | 3.0 | 9.0 | 0.5 | 1.50 | 80.0 | 0 | 9 | 0.012 |"), "{text}");
    }
}
