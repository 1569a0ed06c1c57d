//! Every byte counts: each one in use of a small database, and of its log, is flipped, one bit or all of them; the database is opened,
//! read and verified. Nothing wrong is ever read, nothing panics, and verification finds each flip in what is in use.
//!
//! `ASHLAR_FLIPS=all` flips every byte in both ways; else it is so many flips for each database, spread evenly, from where `ASHLAR_SEED`
//! says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use ashlar_tests::damage::fixture::{Fixture, Form, data};
use ashlar_tests::damage::judge::Outcome;
use ashlar_tests::damage::layout::{FIRST_BLOCK, Kind};
use ashlar_tests::damage::place::{Case, Damage, Place};
use ashlar_tests::damage::tally::{self, Tally};
use ashlar_tests::damage::ways::flipped;
use std::path::PathBuf;

/// Flips for each database, where it is not all of them.
const SOME: u64 = 4000;

/// Bytes of a free block that are flipped: there are many such blocks.
const FREE_BYTES: [u16; 3] = [0, 43, 4095];

/// A byte of a file.
struct Byte {
    path: PathBuf,
    block: u64,
    at: u16,
}

/// Every byte of every block in use and of every segment, and some of free ones.
fn bytes(fixture: &Fixture) -> Vec<Byte> {
    let mut out = Vec::new();
    for path in fixture.images.paths() {
        for block in 0..fixture.images.blocks(path).len() as u64 {
            let free = *path == data() && fixture.piece(block).is_none();
            let at: Vec<u16> = if free { FREE_BYTES.to_vec() } else { (0..4096).collect() };
            out.extend(at.into_iter().map(|at| Byte { path: path.clone(), block, at }));
        }
    }
    out
}

fn flips(fixture: &Fixture, bytes: &[Byte]) -> Tally {
    let both = bytes.len() as u64 * 2;
    let all = std::env::var("ASHLAR_FLIPS").is_ok_and(|v| v == "all");
    let count = if all { both } else { ashlar_tests::number("ASHLAR_FLIPS", SOME).min(both) };
    let first = ashlar_tests::number("ASHLAR_SEED", 0);
    let case = |n: usize| {
        let index = if all { n as u64 } else { (first + n as u64 * both / count) % both };
        let byte = &bytes[(index / 2) as usize];
        // Which bit: any, and each byte always the same.
        let bits = if index.is_multiple_of(2) { 1 << (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61) } else { 0xFF };
        let becomes = flipped(fixture.block(&byte.path, byte.block), usize::from(byte.at), bits);
        let case = Case { path: byte.path.clone(), block: byte.block, damage: Damage::Becomes(becomes) };
        Some((fixture.place(&case).name(), case))
    };
    tally::run(fixture, count as usize, case, false).unwrap_or_else(|what| panic!("{what}"))
}

fn run(form: Form) {
    let fixture = Fixture::make(form, false).unwrap();
    let bytes = bytes(&fixture);
    let began = std::time::Instant::now();
    let tally = flips(&fixture, &bytes);
    let took = began.elapsed();
    println!("{form:?}: {} flips of {} bytes in {took:.1?}\n{}", tally.total(), bytes.len(), tally.table("what was flipped"));
    assert!(tally.of(Outcome::ByReads) > 0 && tally.of(Outcome::AtOpen) > 0 && tally.of(Outcome::Harmless) > 0);
    assert!(form == Form::Closed || tally.of(Outcome::Ended) > 0, "the last flush was hit");
}

#[test]
fn of_a_closed_database() {
    run(Form::Closed);
}

#[test]
fn of_a_crashed_database() {
    run(Form::Crashed);
}

/// Otherwise the tests above would pass by not looking.
#[test]
fn the_databases_have_one_of_everything() {
    for form in [Form::Closed, Form::Crashed] {
        let fixture = Fixture::make(form, false).unwrap();
        let kinds: std::collections::BTreeSet<Kind> = fixture.pieces.iter().map(|piece| piece.kind).collect();
        let common = [
            Kind::MapNode { level: 0 },
            Kind::MapNode { level: 1 },
            Kind::Catalog,
            Kind::Inner,
            Kind::Leaf,
            Kind::Overflow,
            Kind::Run,
            Kind::Dropped,
        ];
        assert!(common.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
        assert!(kinds.iter().filter(|kind| matches!(kind, Kind::Superblock { .. })).count() == 4, "{kinds:?}");
        assert_eq!(kinds.contains(&Kind::Logged), form == Form::Crashed);
        let blocks = fixture.images.blocks(&data()).len() as u64;
        let used: u64 = fixture.pieces.iter().map(|piece| piece.blocks).sum();
        let segments = fixture.images.paths().count() - 1;
        println!(
            "{form:?}: {used} blocks in use of {}, {segments} segments, {} flushes from C on",
            blocks - FIRST_BLOCK,
            fixture.log.flushes.len()
        );
        assert!(blocks - FIRST_BLOCK > used && used < 120, "{used} of {blocks} blocks");
        if form == Form::Crashed {
            assert!(fixture.log.flushes.len() > 10 && fixture.states.len() > 15);
            assert!(fixture.log.flushes.iter().any(|flush| flush.blocks() > 1));
            let last = fixture.log.flushes.last().unwrap();
            assert!(fixture.state_at(last.lsn) != fixture.state(), "commits stand in the last flush");
        }
    }
}

/// A judge that takes wrong for right would let everything pass: what is damaged is not what it is told, and it must say so.
#[test]
fn a_judge_who_is_told_something_else_complains() {
    let fixture = Fixture::make(Form::Crashed, false).unwrap();
    let with = |path: PathBuf, block: u64| {
        let becomes = flipped(fixture.block(&path, block), 9, 1);
        Case { path, block, damage: Damage::Becomes(becomes) }
    };
    // Two pages are damaged, and one is told.
    let leaves: Vec<u64> = fixture.pieces.iter().filter(|p| p.kind == Kind::Leaf).map(|p| p.block).collect();
    let mut other = Fixture::make(Form::Crashed, false).unwrap();
    assert_eq!(other.pieces.len(), fixture.pieces.len());
    other.pieces.retain(|p| p.block != leaves[0]);
    let found = ashlar_tests::damage::judge::Judge::new(&other).unwrap().judge(&with(data(), leaves[0]));
    assert!(found.is_err_and(|what| what.contains("free block is damaged, but verify finds")));
    // The last flush is taken for one that is vouched for.
    let last = fixture.log.flushes.last().unwrap();
    let case = with(last.path.clone(), last.block);
    assert!(matches!(fixture.place(&case), Place::Log(ashlar_tests::damage::log::Due::EndsAt(_))));
    other = Fixture::make(Form::Crashed, false).unwrap();
    other.log.a = u64::MAX;
    let found = ashlar_tests::damage::judge::Judge::new(&other).unwrap().judge(&case);
    assert!(found.is_err_and(|what| what.contains("a confirmed flush is damaged, and the database was opened")));
    // Nothing is expected but what the last flush has brought.
    other = Fixture::make(Form::Crashed, false).unwrap();
    other.states.truncate(other.states.len() - 1);
    assert!(ashlar_tests::damage::judge::Judge::new(&other).is_err());
}
