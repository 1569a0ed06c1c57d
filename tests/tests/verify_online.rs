//! A database is verified while it is used: large values and bulk loads that only the log names come and go, checkpoints are made, the
//! file gets shorter. Verification finds nothing wrong, since there is nothing wrong.

use ashlar_disk::sim::{Sim, SimOptions};
use ashlar_disk::sync::spawn;
use ashlar_tests::dump;
use ashlar_tests::geometry::Geometry;
use ashlardb::{Background, Database, Durability, Error};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn write(db: &Database, rng: &mut ChaCha8Rng, thread: u8) -> Result<(), Error> {
    let keyspace = db.keyspace("values")?;
    for step in 0..40u32 {
        let key = [thread, rng.random_range(0..4)];
        let durability = if rng.random() { Durability::Immediate } else { Durability::Eventual };
        match rng.random_range(0..8) {
            0 => keyspace.remove_with(key, durability)?,
            1 => {
                let name = format!("loaded {thread}");
                db.drop_keyspace(&name)?;
                let entries = (0..rng.random_range(1..60u32)).map(|n| Ok::<_, Error>((n.to_be_bytes(), [step as u8; 300])));
                db.keyspace(&name)?.bulk_load(entries)?;
            }
            2 => keyspace.insert_with(key, [7; 20], durability)?,
            _ => keyspace.insert_with(key, vec![step as u8; rng.random_range(2000..60_000)], durability)?,
        }
    }
    Ok(())
}

fn keep(db: &Database, rng: &mut ChaCha8Rng) -> Result<(), Error> {
    for _ in 0..8 {
        match rng.random_range(0..4) {
            0 => drop(db.compact()?),
            1 => drop(db.maintain()?),
            _ => db.checkpoint()?,
        }
    }
    Ok(())
}

#[test]
fn nothing_is_found_wrong_while_it_is_written_to() {
    let seeds = ashlar_tests::number("ASHLAR_VERIFY_RUNS", 150);
    let first = ashlar_tests::number("ASHLAR_SEED", 0);
    let mut logged = 0;
    for seed in first..first + seeds {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let geometry = Geometry::draw(&mut rng);
        let sim = Sim::new(SimOptions::new(seed));
        let fs = sim.fs();
        let outcome = sim.run(move || {
            let db = geometry.options(Some(fs), Background::Manual).open("/db").expect("a database");
            let mut threads = Vec::new();
            for thread in 0..3u8 {
                let (db, mut rng) = (db.clone(), ChaCha8Rng::seed_from_u64(rng.random()));
                let mut work = move || if thread == 0 { keep(&db, &mut rng) } else { write(&db, &mut rng, thread) };
                threads.push(spawn("worker", move || work().expect("work")).expect("a thread"));
            }
            let mut logged = 0;
            for _ in 0..4 {
                dump::verify(&db).unwrap_or_else(|e| panic!("{e}"));
                logged += db.verify().expect("a report").logged_pages;
            }
            threads.into_iter().for_each(|thread| thread.join().expect("the thread"));
            dump::verify(&db).unwrap_or_else(|e| panic!("at rest: {e}"));
            logged
        });
        match (outcome.value, outcome.failure) {
            (Some(pages), None) => logged += pages,
            (_, failure) => panic!("ASHLAR_SEED={seed} ASHLAR_VERIFY_RUNS=1 repeats it: {failure:?}"),
        }
    }
    assert!(logged > seeds, "hardly anything stood in the log alone: {logged} pages and runs");
}
