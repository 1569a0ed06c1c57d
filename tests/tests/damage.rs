//! Every kind of block, damaged in every way, in a closed and in a crashed database, at several positions: all cases, none left out. Each
//! database is opened for reading and verified, and a copy of it opened for writing, written to, and looked at again.
//!
//! The kinds and ways are those of the study *Protocol-Aware Recovery for Consensus-Based Storage* (FAST 2018), whose targeted
//! corruptions were 2,401 cases, and more.
//!
//! `ASHLAR_DAMAGE` is how many cases of each database are judged, evenly spread; `all` is all of them. Without it these are all, but for
//! those of the large blob, which take long.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use ashlar_tests::damage::fixture::{Fixture, Form, data};
use ashlar_tests::damage::judge::Outcome;
use ashlar_tests::damage::layout::{FIRST_BLOCK, Kind, Piece};
use ashlar_tests::damage::place::Case;
use ashlar_tests::damage::tally::{self, Tally};
use ashlar_tests::damage::ways::{Way, cases};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Pieces of each kind that are damaged, at most.
const PIECES: usize = 6;

/// Free blocks, and blocks of the log that are not in use, that are damaged.
const UNUSED: usize = 8;

/// The blocks of a piece that are damaged: the first, a middle one, the last.
fn blocks_of(piece: &Piece) -> Vec<u64> {
    let mut blocks = vec![piece.block, piece.block + piece.blocks / 2, piece.block + piece.blocks - 1];
    blocks.dedup();
    blocks
}

/// So many of them, evenly spread, the last among them.
fn spread<T: Clone>(all: &[T], count: usize) -> Vec<T> {
    (1..=count.min(all.len())).map(|n| all[n * all.len() / count.min(all.len()) - 1].clone()).collect()
}

/// The blocks that are damaged: of each kind in `data`, of each part of the log, and such as are not in use.
fn targets(fixture: &Fixture, is_wanted: &dyn Fn(Kind) -> bool) -> Vec<(PathBuf, u64)> {
    let mut kinds: BTreeMap<Kind, Vec<&Piece>> = BTreeMap::new();
    for piece in fixture.pieces.iter().filter(|piece| is_wanted(piece.kind)) {
        kinds.entry(piece.kind).or_default().push(piece);
    }
    let pieces = kinds.values().flat_map(|pieces| spread(pieces, PIECES));
    let mut out: Vec<(PathBuf, u64)> = pieces.flat_map(blocks_of).map(|block| (data(), block)).collect();
    if !is_wanted(Kind::Leaf) {
        return out;
    }
    let end = fixture.images.blocks(&data()).len() as u64;
    let free: Vec<u64> = (FIRST_BLOCK..end).filter(|&block| fixture.piece(block).is_none()).collect();
    out.extend(spread(&free, UNUSED).into_iter().map(|block| (data(), block)));
    // All blocks of all flushes: the header of each, the middle and the end of records.
    let log = fixture
        .log
        .flushes
        .iter()
        .flat_map(|flush| (flush.block..flush.block + flush.blocks()).map(|block| (flush.path.clone(), block)));
    out.extend(log);
    for path in fixture.images.paths().filter(|path| **path != data()) {
        let blocks = fixture.images.blocks(path).len() as u64;
        let idle: Vec<u64> = (0..blocks).filter(|&block| !fixture.log.is_used(path, block)).collect();
        // A segment's first block is where a stray one shows.
        out.extend(spread(&idle, UNUSED / 2).into_iter().chain(idle.first().copied()).map(|block| (path.clone(), block)));
    }
    out
}

fn judge(fixture: &Fixture, targets: &[(PathBuf, u64)], unless_told: usize) -> (Tally, Tally) {
    let all: Vec<(Way, Case)> =
        targets.iter().flat_map(|(path, block)| Way::ALL.iter().flat_map(|&way| of(fixture, way, path, *block))).collect();
    let count = match std::env::var("ASHLAR_DAMAGE").as_deref() {
        Ok("all") => all.len(),
        Ok(_) => (ashlar_tests::number("ASHLAR_DAMAGE", 0) as usize).min(all.len()),
        Err(_) => unless_told.min(all.len()),
    };
    let pick = |n: usize| &all[n * all.len() / count];
    let mut by_way = Tally::default();
    let mut by_place = Tally::default();
    let row = |n: usize| {
        let (way, case) = pick(n);
        (format!("{way}\u{0}{}", fixture.place(case).name()), case.clone())
    };
    let tally = tally::run(fixture, count, |n| Some(row(n)), true).unwrap_or_else(|what| panic!("{what}"));
    tally.split(&mut by_way, &mut by_place);
    (by_way, by_place)
}

fn of(fixture: &Fixture, way: Way, path: &Path, block: u64) -> Vec<(Way, Case)> {
    cases(fixture, way, path, block).into_iter().map(|case| (way, case)).collect()
}

fn report(name: &str, (by_way, by_place): &(Tally, Tally)) {
    println!("{name}: {} cases\n\n{}\n\n{}\n", by_way.total(), by_place.table("what was damaged"), by_way.table("how"));
    assert!(by_way.of(Outcome::ByReads) > 0);
}

fn run(form: Form) -> (Tally, Tally) {
    let fixture = Fixture::make(form, false).unwrap();
    let tallies = judge(&fixture, &targets(&fixture, &|_| true), usize::MAX);
    report(&format!("{form:?}"), &tallies);
    assert_eq!(tallies.0.rows(), Way::ALL.len(), "every way has cases");
    tallies
}

#[test]
fn every_kind_of_block_damaged_in_every_way() {
    let (mut by_way, mut by_place) = (Tally::default(), Tally::default());
    for (ways, places) in [run(Form::Closed), run(Form::Crashed)] {
        by_way.merge(&ways);
        by_place.merge(&places);
    }
    report("Both", &(by_way.clone(), by_place));
    assert!(by_way.total() > 2400 || std::env::var_os("ASHLAR_DAMAGE").is_some(), "{} cases", by_way.total());
}

/// A blob of 16 MiB whose list of runs has pages of its own: these pages, and the first, a middle and the last block of its runs.
#[test]
fn a_blob_with_a_long_list() {
    for form in [Form::Closed, Form::Crashed] {
        let fixture = Fixture::make(form, true).unwrap();
        let targets = targets(&fixture, &|kind| matches!(kind, Kind::RunList | Kind::LongRun));
        assert!(targets.len() > 15, "{targets:?}");
        report(&format!("{form:?}, a blob with a long list"), &judge(&fixture, &targets, 60));
    }
}
