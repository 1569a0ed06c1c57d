//! Records that a power cut cuts: long enough to reach over the end of a log segment, with a crash at every call of their commit. Histories
//! hardly meet a cut between two flushes of one record; here it comes each time.
//!
//! The life after the cut commits behind what is left of the record, and crashes soon after, before a checkpoint has taken it out of the
//! log; the one after that must find what both had confirmed.

use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlardb::fault::Fault;
use ashlardb::{Background, Database, Error, Keyspace, Options};

/// Bytes of a log segment.
const SEGMENT: u64 = 64 << 10;

/// The last call of the commit behind the record that crashes.
const BEHIND: u64 = 4;

/// Bytes of values: before the long one, of it, and behind it.
const LENS: [usize; 3] = [10_000, 60_000, 5_000];

fn open(sim: &Sim, fault: Fault) -> Result<(Database, Keyspace), Error> {
    let options = Options::new().file_system(sim.fs()).background(Background::Manual).fault(fault);
    let options = options.page_size(4096).cache_size(64 << 12).segment_size(SEGMENT).log_limit(1 << 20).grow_step(256 << 10);
    let db = options.open("/db")?;
    let keyspace = db.keyspace("records")?;
    Ok((db, keyspace))
}

/// The value under key `n`.
fn value(n: usize) -> Vec<u8> {
    vec![n as u8 + 1; LENS[n]]
}

/// Whether key `n` is there, whole.
fn is_there(keyspace: &Keyspace, n: usize) -> Result<bool, String> {
    match keyspace.get([n as u8]).map_err(|e| format!("key {n}: {e}"))? {
        Some(found) if *found == value(n)[..] => Ok(true),
        Some(found) => Err(format!("key {n} holds {} bytes that it never held", found.len())),
        None => Ok(false),
    }
}

/// Cuts the record at each call of its commit; gives the number of calls.
///
/// # Errors
/// The call, and what was wrong after it.
pub fn every_cut(fault: Fault) -> Result<u64, (u64, String)> {
    for call in 1.. {
        let mut is_there = false;
        for behind in 1..=BEHIND {
            is_there =
                cut_at((call, behind), fault).map_err(|e| (call, format!("and at call {behind} of the next commit: {e}")))?;
        }
        if !is_there {
            return Ok(call - 1);
        }
    }
    Ok(0)
}

/// False: the commit has no such call.
fn cut_at((call, behind): (u64, u64), fault: Fault) -> Result<bool, String> {
    let told = |life: &'static str| move |e: Error| format!("{life}: {e}");
    let sim = Sim::new(SimOptions::new(call));
    let (db, records) = open(&sim, fault).map_err(told("first life"))?;
    records.insert([0], value(0)).map_err(told("first life"))?;
    sim.set_crash_at(Some(sim.calls() + call));
    let confirmed = records.insert([1], value(1)).is_ok();
    drop((records, db));
    let was_cut = sim.has_crashed();

    let sim = sim.restart(Restart::PowerCut, SimOptions::new(call));
    let (db, records) = open(&sim, fault).map_err(told("second life"))?;
    let left = is_there(&records, 1)?;
    if !is_there(&records, 0)? || confirmed && !left {
        return Err("second life: a confirmed record is lost".into());
    }
    sim.set_crash_at(Some(sim.calls() + behind));
    let confirmed_behind = records.insert([2], value(2)).is_ok();
    drop((records, db));

    let sim = sim.restart(Restart::PowerCut, SimOptions::new(call));
    let (_db, records) = open(&sim, fault).map_err(told("third life"))?;
    let lost = confirmed_behind && !is_there(&records, 2)?;
    if !is_there(&records, 0)? || is_there(&records, 1)? != left || lost {
        return Err("third life: what was there before is not".into());
    }
    Ok(was_cut)
}
