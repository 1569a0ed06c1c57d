//! The n-th call to the operating system fails, for every n, with every error that can come there, once and from then on: no commit that
//! was confirmed is lost, none is confirmed that may be, nothing panics, nobody waits for ever.
//!
//! `ASHLAR_NTH=all` runs every case with every ending; else it is every case whose number `ASHLAR_NTH` (3) divides, from `ASHLAR_SEED` on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use ashlar_tests::failing::work::{After, Came, Ran, Setting, run};
use ashlar_tests::failing::{Call, Failure, Plan};
use ashlardb::Background;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What came, by kind of call and by way to fail.
type Counts = BTreeMap<(Call, Failure), BTreeMap<Came, u64>>;

fn seen(background: Background) -> Vec<Call> {
    let ran = run(Setting { plan: None, after: After::GoesOn, background, seed: 1 }).unwrap_or_else(|text| panic!("{text}"));
    assert!(ran.hits.is_empty() && ran.came == Came::Absorbed);
    ran.seen
}

/// Every case: a call, and how it fails.
fn settings(calls: &[Call], from_then_on: bool, failures: &[Failure], background: Background) -> Vec<Setting> {
    let mut out = Vec::new();
    for (i, &call) in calls.iter().enumerate() {
        for &failure in failures.iter().filter(|failure| failure.can_come(call)) {
            for (j, after) in After::ALL.into_iter().enumerate() {
                let with_effect = (i + j) % 2 == 0;
                let plan = Plan { nth: i as u64 + 1, from_then_on, failure, with_effect };
                out.push(Setting { plan: Some(plan), after, background, seed: 1 });
            }
        }
    }
    out
}

/// Those that are to be run.
fn chosen(all: Vec<Setting>) -> Vec<Setting> {
    if std::env::var("ASHLAR_NTH").is_ok_and(|v| v == "all") {
        return all;
    }
    let every = ashlar_tests::number("ASHLAR_NTH", 3).max(1) as usize;
    let first = ashlar_tests::number("ASHLAR_SEED", 0) as usize;
    all.into_iter().skip(first % every).step_by(every).collect()
}

fn run_all(settings: &[Setting]) -> Counts {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Counts, String> {
        let mut counts = Counts::new();
        loop {
            let n = next.fetch_add(1, Relaxed);
            let Some(setting) = settings.get(n) else { return Ok(counts) };
            let stop = |text: String| {
                next.store(settings.len(), Relaxed);
                format!("{setting:?}: {text}")
            };
            let Ran { hits, came, .. } = run(*setting).map_err(stop)?;
            let (Some(hit), Some(plan)) = (hits.first(), setting.plan) else { continue };
            *counts.entry((hit.call, plan.failure)).or_default().entry(came).or_default() += 1;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let results: Vec<Result<Counts, String>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err("a worker panicked".into()))).collect()
    });
    let mut sum = Counts::new();
    for result in results {
        for (key, counts) in result.unwrap_or_else(|text| panic!("{text}")) {
            let into = sum.entry(key).or_default();
            counts.iter().for_each(|(came, n)| *into.entry(*came).or_default() += n);
        }
    }
    sum
}

fn total(counts: &Counts) -> u64 {
    counts.values().flat_map(BTreeMap::values).sum()
}

fn table(counts: &Counts) -> String {
    let mut out = "| call | ".to_owned();
    out += &Failure::ALL.map(|failure| failure.to_string()).join(" | ");
    out += " | all | absorbed | told | no more writes | not opened at first |\n| --- |";
    out += &" ---: |".repeat(Failure::ALL.len() + 5);
    let calls: BTreeSet<Call> = counts.keys().map(|key| key.0).collect();
    let mut lines: Vec<(String, Vec<Call>)> = calls.iter().map(|call| (call.name().to_owned(), vec![*call])).collect();
    lines.push(("all".into(), calls.into_iter().collect()));
    for (name, calls) in lines {
        let of = |failure: Option<Failure>, came: Option<Came>| -> u64 {
            let rows = counts.iter().filter(|(key, _)| calls.contains(&key.0) && failure.is_none_or(|f| f == key.1));
            rows.flat_map(|(_, counts)| counts).filter(|(c, _)| came.is_none_or(|came| came == **c)).map(|(_, n)| n).sum()
        };
        let mut cells: Vec<u64> = Failure::ALL.iter().map(|&failure| of(Some(failure), None)).collect();
        cells.push(of(None, None));
        cells.extend([Came::Absorbed, Came::Told, Came::Stopped, Came::NotOpened].map(|came| of(None, Some(came))));
        let cells: Vec<String> = cells.iter().map(|n| if *n == 0 { "–".into() } else { n.to_string() }).collect();
        out += &format!("\n| {name} | {} |", cells.join(" | "));
    }
    out
}

fn report(what: &str, counts: &Counts) {
    println!("{what}: {} cases\n\n{}\n", total(counts), table(counts));
}

#[test]
fn every_call_fails_once_in_every_way() {
    let calls = seen(Background::Manual);
    let kinds: BTreeSet<Call> = calls.iter().copied().collect();
    assert_eq!(kinds.len(), 21, "the work comes to every kind of call: {kinds:?}");
    let all = settings(&calls, false, &Failure::ALL, Background::Manual);
    println!("{} calls, {} cases in all", calls.len(), all.len());
    assert!(all.len() > 2100 * 3, "more than 2,100 cases, each with three endings");
    report("once", &run_all(&chosen(all)));
}

#[test]
fn every_call_from_some_one_on_fails() {
    let calls = seen(Background::Manual);
    let all = settings(&calls, true, &[Failure::Eio, Failure::Enospc], Background::Manual);
    println!("{} cases in all", all.len());
    report("from then on", &run_all(&chosen(all)));
}

/// With the database's own threads at work: the same seed gives the same calls, until one fails.
#[test]
fn every_call_fails_once_beside_threads() {
    let calls = seen(Background::Threads);
    let all = settings(&calls, false, &[Failure::Eio, Failure::Enospc], Background::Threads);
    println!("{} calls, {} cases in all", calls.len(), all.len());
    let some: Vec<Setting> =
        chosen(all).into_iter().step_by(if std::env::var_os("ASHLAR_NTH").is_some() { 1 } else { 4 }).collect();
    report("once, beside threads", &run_all(&some));
}
