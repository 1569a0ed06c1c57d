//! Makes each deliberate mistake and prints, as a table in Markdown, who noticed it and after how many histories.
//!
//! `cargo run -p ashlar-tests --bin mutations [NAME …]`; `ASHLAR_MUTATION_HISTORIES` bounds the histories of each.

use ashlar_tests::mutations::{ALL, Mutation};
use ashlar_tests::number;
use std::process::ExitCode;

fn main() -> ExitCode {
    let bound = number("ASHLAR_MUTATION_HISTORIES", 20_000);
    let names: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Vec<Mutation> = ALL.iter().filter(|m| names.is_empty() || names.iter().any(|n| n == m.name)).copied().collect();
    println!("| mistake | noticed by | by seed | seconds | how |\n| --- | --- | --- | --- | --- |");
    let mut unnoticed = 0;
    for mutation in chosen {
        let begun = std::time::Instant::now();
        let noticed = mutation.run(bound);
        let seconds = begun.elapsed().as_secs_f64();
        unnoticed += u32::from(noticed.is_none());
        let (seed, how) = match noticed {
            Some(noticed) => (noticed.seed.to_string(), told(&noticed.failure)),
            None => (format!("none of {bound}"), String::new()),
        };
        let name = mutation.name.replace('_', " ");
        println!("| {name} | {} | {seed} | {seconds:.1} | {how} |", mutation.harness.name());
    }
    if unnoticed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What went wrong, in a few words: what follows what was drawn, without values.
fn told(failure: &str) -> String {
    let after_drawn = failure.rsplit_once(" }: ").map_or(failure, |(_, rest)| rest);
    let line = after_drawn.lines().next().unwrap_or_default();
    let short: String = line.chars().take(70).collect();
    short.replace('|', "\\|").replace(['<', '>'], "")
}
