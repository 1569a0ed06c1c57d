//! A bank: money moves between accounts, and nobody ever sees it made or lost.
//!
//! Threads transfer, at both isolation levels and with both durabilities, while others sum all accounts in every way there is, and one
//! makes checkpoints. The cache is tiny, few entries fit a page, and balances are padded to all lengths, so that pages split,
//! merge and are evicted all the time. The same in a process that is killed, again and again.
//!
//! `ASHLAR_BANK_SECONDS` sets for how long, `ASHLAR_KILLS` how many processes are killed, `ASHLAR_SEED` the first seed,
//! `ASHLAR_INCREMENTS` how often each thread increments the hot counter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_tests::number;
use ashlardb::{Background, Database, Durability, Error, Isolation, Keyspace, Options, TransactionOptions, Value};
use common::process::{part, say, start};
use common::{assert_clean, quiet, scratch};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const ACCOUNTS: u64 = 100;
const OPENING: u64 = 1000;
const TOTAL: u64 = ACCOUNTS * OPENING;
const TELLERS: u64 = 8;

/// In how many ways all money is looked at.
const WAYS: u64 = 7;

struct Bank {
    db: Database,
    accounts: Keyspace,
    /// Of each teller the number of the last transfer, written with it.
    slips: Keyspace,
}

fn options() -> Options {
    let small = quiet().page_size(4096).cache_size(24 * 4096).slots_max(6);
    let small = small.segment_size(64 << 10).log_limit(512 << 10).grow_step(256 << 10);
    // The order that the kernel gives to what goes through `io_uring` can't be seen by ThreadSanitizer.
    if std::env::var_os("ASHLAR_QUEUE").is_some_and(|kind| kind == "threads") {
        small.queue_kind(ashlardb::QueueKind::Threads)
    } else {
        small
    }
}

fn account(n: u64) -> Vec<u8> {
    format!("account {n:03}").into_bytes()
}

/// A balance, padded so that it stands in its leaf or in an overflow page.
fn padded(balance: u64, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let len = if rng.random_range(0..100) == 0 { 5000 } else { rng.random_range(8..120) };
    let mut value = balance.to_le_bytes().to_vec();
    value.resize(len, 0);
    value
}

fn balance(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}

impl Bank {
    /// Opens the bank in `path`, founding it where there is none.
    fn open(path: &Path, background: Background) -> Bank {
        let db = options().background(background).open(path).unwrap();
        let (accounts, slips) = db
            .transact(|tx| {
                let (accounts, slips) = (tx.keyspace("accounts")?, tx.keyspace("slips")?);
                if tx.is_empty(&accounts)? {
                    for n in 0..ACCOUNTS {
                        tx.insert(&accounts, account(n), OPENING.to_le_bytes())?;
                    }
                }
                Ok((accounts, slips))
            })
            .unwrap();
        Bank { db, accounts, slips }
    }

    /// One transfer, with its slip; what durability it had.
    fn transfer(&self, teller: u64, slip: u64, rng: &mut ChaCha8Rng) -> Durability {
        let durability = if rng.random_range(0..4) == 0 { Durability::Immediate } else { Durability::Eventual };
        // Either level will do: whoever moves money has read and writes both accounts.
        let isolation = if rng.random() { Isolation::Serializable } else { Isolation::Snapshot };
        let options = TransactionOptions { isolation, durability: Some(durability) };
        let outcome: Result<(), Error> = self.db.transact_with(options, |tx| {
            let (from, to) = (account(rng.random_range(0..ACCOUNTS)), account(rng.random_range(0..ACCOUNTS)));
            let there = balance(&tx.get(&self.accounts, &from)?.unwrap());
            let amount = rng.random_range(0..=there.min(100));
            tx.insert(&self.accounts, &from, padded(there - amount, rng))?;
            let at_the_other = balance(&tx.get(&self.accounts, &to)?.unwrap());
            tx.insert(&self.accounts, &to, padded(at_the_other + amount, rng))?;
            tx.insert(&self.slips, teller.to_be_bytes(), slip.to_le_bytes())
        });
        outcome.unwrap();
        durability
    }

    /// An account is closed and what it holds goes to another; a new one is opened with money from a third. At every moment between
    /// transactions there are as many accounts as ever.
    fn reopen_account(&self, rng: &mut ChaCha8Rng) {
        let n = rng.random_range(0..ACCOUNTS);
        let other = account((n + 1 + rng.random_range(0..ACCOUNTS - 1)) % ACCOUNTS);
        let outcome = self.db.transact(|tx| {
            let there = balance(&tx.get(&self.accounts, account(n))?.unwrap());
            let at_the_other = balance(&tx.get(&self.accounts, &other)?.unwrap());
            tx.remove_range(&self.accounts, account(n)..=account(n))?;
            assert_eq!(tx.len(&self.accounts)?, ACCOUNTS - 1);
            tx.insert(&self.accounts, &other, padded((there + at_the_other) / 2, rng))?;
            tx.insert(&self.accounts, account(n), padded(there + at_the_other - (there + at_the_other) / 2, rng))
        });
        outcome.unwrap();
    }

    /// All money, looked at in one of many ways.
    fn look(&self, way: u64) {
        let sum = |entries: &mut dyn Iterator<Item = Result<(Vec<u8>, Value), Error>>| {
            entries.map(|entry| balance(&entry.unwrap().1)).fold((0, 0), |(count, sum), balance| (count + 1, sum + balance))
        };
        let keys: Vec<Vec<u8>> = (0..ACCOUNTS).map(account).collect();
        let of_many = |values: Vec<Option<Value>>| {
            values.into_iter().fold((0, 0), |(count, sum), value| (count + 1, sum + balance(&value.unwrap())))
        };
        let found = match way % WAYS {
            0 => sum(&mut self.db.snapshot().unwrap().iter(&self.accounts)),
            1 => sum(&mut self.accounts.range(account(0)..).rev()),
            2 => {
                let tx = self.db.begin().unwrap();
                let found = sum(&mut tx.iter(&self.accounts));
                assert_eq!(tx.len(&self.accounts).unwrap(), found.0);
                tx.commit().unwrap();
                found
            }
            3 => of_many(self.accounts.get_many(&keys).unwrap()),
            4 => {
                // Each account by itself, all as of one moment.
                let snapshot = self.db.snapshot().unwrap();
                of_many(keys.iter().map(|key| snapshot.get(&self.accounts, key).unwrap()).collect())
            }
            5 => {
                let mut range = self.accounts.iter();
                let (mut count, mut all) = (0, 0);
                while let Some(entry) = if count % 3 == 0 { range.next_back() } else { range.next() } {
                    (count, all) = (count + 1, all + balance(&entry.unwrap().1));
                }
                (count, all)
            }
            _ => self.db.transact(|tx| Ok(sum(&mut tx.prefix(&self.accounts, "account").rev()))).unwrap(),
        };
        assert_eq!(found, (ACCOUNTS, TOTAL), "way {}", way % WAYS);
    }
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    transfers: AtomicU64,
    looks: AtomicU64,
}

/// Tellers, readers and a thread that makes checkpoints, for as long as `goes_on` says; `told` is told of each transfer that is durable.
fn work(bank: &Bank, seed: u64, goes_on: impl Fn() -> bool + Sync, told: impl Fn(u64, u64) + Sync) -> Done {
    let done = Done::default();
    std::thread::scope(|scope| {
        let (done, goes_on, told) = (&done, &goes_on, &told);
        for teller in 0..TELLERS {
            scope.spawn(move || {
                let mut rng = ChaCha8Rng::seed_from_u64(seed * 100 + teller);
                let mut slip = bank.slips.get(teller.to_be_bytes()).unwrap().map_or(0, |slip| balance(&slip));
                while goes_on() {
                    slip += 1;
                    if bank.transfer(teller, slip, &mut rng) == Durability::Immediate {
                        told(teller, slip);
                    }
                    if slip.is_multiple_of(16) {
                        bank.reopen_account(&mut rng);
                    }
                    done.transfers.fetch_add(1, Relaxed);
                }
            });
        }
        for reader in 0..3 {
            scope.spawn(move || {
                let mut way = reader;
                while goes_on() {
                    bank.look(way);
                    way += 1;
                    done.looks.fetch_add(1, Relaxed);
                }
            });
        }
        scope.spawn(move || {
            while goes_on() {
                bank.db.checkpoint().unwrap();
            }
        });
    });
    done
}

#[test]
fn the_sum_never_wavers() {
    let dir = scratch();
    let bank = Bank::open(&dir.path().join("bank"), Background::Threads);
    let until = Instant::now() + Duration::from_secs(number("ASHLAR_BANK_SECONDS", 4));
    let done = work(&bank, number("ASHLAR_SEED", 0), || Instant::now() < until, |_, _| ());
    let stats = bank.db.stats();
    println!("{done:?}, {} checkpoints, {:?}", stats.checkpoints, stats.pool);
    assert!(done.transfers.into_inner() > 100 && done.looks.into_inner() > 20 && stats.checkpoints > 2);
    (0..WAYS).for_each(|way| bank.look(way));
    while bank.db.maintain().unwrap() {}
    bank.db.checkpoint().unwrap();
    assert_eq!((bank.db.stats().snapshots, bank.db.stats().versions), (0, 0));
    assert_clean(&bank.db);
}

/// The part that other processes play in the test below.
#[test]
#[ignore = "plays a part in another test"]
fn plays_a_part() {
    let Some((part, dir)) = part() else { return };
    let seed = part.parse().unwrap();
    let bank = Bank::open(&dir, Background::Threads);
    say("open");
    work(&bank, seed, || true, |teller, slip| say(format!("{teller} {slip}.")));
}

#[test]
fn a_killed_bank_has_all_its_money_and_every_slip_that_it_confirmed() {
    let dir = scratch();
    let path = dir.path().join("bank");
    let (first, kills) = (number("ASHLAR_SEED", 0), number("ASHLAR_KILLS", 20));
    let mut heard = Heard::default();
    for seed in first..first + kills {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bank = start(&seed.to_string(), &path);
        if rng.random_range(0..4) == 0 {
            // Founding, recovery, or the first transfers.
            std::thread::sleep(Duration::from_micros(rng.random_range(0..40_000)));
        } else {
            for _ in 0..rng.random_range(0..150) {
                let line = bank.hears().unwrap_or_else(|| panic!("seed {seed}: the bank has closed by itself"));
                heard.note(&line);
            }
        }
        bank.kill();
        while let Some(line) = bank.hears() {
            heard.note(&line);
        }
        drop(bank);
        let bank = Bank::open(&path, Background::Manual);
        (0..WAYS).for_each(|way| bank.look(way));
        for (teller, confirmed) in (0u64..).zip(&mut heard.slips) {
            let slip = bank.slips.get(teller.to_be_bytes()).unwrap().map_or(0, |slip| balance(&slip));
            assert!(slip >= *confirmed, "seed {seed}: teller {teller} has slip {slip}, {confirmed} was confirmed");
            *confirmed = slip;
        }
        bank.transfer(0, heard.slips[0] + 1, &mut rng);
        bank.look(seed);
        assert_clean(&bank.db);
        if seed.is_multiple_of(3) {
            let Bank { db, accounts, slips } = bank;
            drop((accounts, slips));
            db.close().unwrap();
        }
    }
    println!("{heard:?}");
    assert!(kills < 20 || heard.slips.iter().sum::<u64>() > 200);
}

/// What killed banks have said.
#[derive(Debug, Default)]
struct Heard {
    /// How many have opened before they were killed.
    opened: u64,
    /// Each teller's last slip.
    slips: [u64; TELLERS as usize],
}

impl Heard {
    /// Takes a line. The last one may be cut off by the kill.
    fn note(&mut self, line: &str) {
        self.opened += u64::from(line == "open");
        let confirmed = line.strip_suffix('.').and_then(|line| line.split_once(' '));
        if let Some((teller, slip)) = confirmed {
            let (teller, slip): (usize, u64) = (teller.parse().unwrap(), slip.parse().unwrap());
            self.slips[teller] = self.slips[teller].max(slip);
        }
    }
}

/// A key that everybody wants: no increment is lost, and commits share flushes.
#[test]
fn a_hot_counter_counts_every_increment() {
    const THREADS: u64 = 8;
    let dir = scratch();
    let db = Options::new().cache_size(4 << 20).open(dir.path().join("db")).unwrap();
    let k = db.keyspace("k").unwrap();
    k.insert("n", 0u64.to_le_bytes()).unwrap();
    let one_alone = {
        let started = Instant::now();
        (0..20).for_each(|_| k.insert("other", "").unwrap());
        started.elapsed() / 20
    };
    let increments = number("ASHLAR_INCREMENTS", 150);
    let (before, tries, started) = (db.stats(), AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut last = 0;
                for _ in 0..increments {
                    let options = TransactionOptions { durability: Some(Durability::Immediate), ..Default::default() };
                    let outcome: Result<u64, Error> = db.transact_with(options, |tx| {
                        tries.fetch_add(1, Relaxed);
                        let n = balance(&tx.get(&k, "n")?.unwrap()) + 1;
                        std::thread::yield_now();
                        tx.insert(&k, "n", n.to_le_bytes())?;
                        Ok(n)
                    });
                    let n = outcome.unwrap();
                    assert!(n > last, "{n} after {last}");
                    last = n;
                    assert!(balance(&k.get("n").unwrap().unwrap()) >= n, "what has returned is seen");
                }
            });
        }
    });
    let (took, after) = (started.elapsed(), db.stats());
    assert_eq!(balance(&k.get("n").unwrap().unwrap()), THREADS * increments);
    let commits = after.commits - before.commits;
    let (log, log_before) = (after.log.unwrap(), before.log.unwrap());
    let flushes = (log.flushes - log.witnesses) - (log_before.flushes - log_before.witnesses);
    let a_flush = commits as f64 / flushes as f64;
    println!(
        "{commits} commits in {took:?}, {tries:?} tries, {flushes} flushes: {a_flush:.2} commits a flush; one alone {one_alone:?}"
    );
    assert_eq!(commits, THREADS * increments);
    // Where a flush takes no time there is nobody to share it with.
    if one_alone > Duration::from_micros(300) {
        assert!(a_flush > 1.0, "{a_flush}");
    }
    assert!(tries.into_inner() >= commits);
    assert_eq!(after.snapshots, 0);
}
