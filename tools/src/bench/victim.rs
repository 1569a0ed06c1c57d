//! What the process does that `recover` kills: single-key commits, `Eventual`, until then.
//!
//! Every thread has its own share of the entries and writes it from the first to the last, an entry a commit, again and again, each
//! round in the next generation. As commits survive in order, a crash leaves of a thread's work a prefix:
//!
//! ```text
//!   share   0  1  2  3  4  5  6        entries 0 to 2 in their fourth generation, the others in their third:
//!   there   3  3  3  2  2  2  2        3 rounds of 7 commits and 3 commits more, 24 in all
//! ```
//!
//! Anything else is damage. Now and then the process makes all durable and tells how many commits each thread had made before: no fewer
//! may be found.

use super::Args;
use super::place::{Contents, Place};
use crate::error::Result;
use crate::output::Output;
use ashlar_disk::sync::{Mutex, sleep, spawn};
use ashlar_workload::{Permutation, data};
use ashlardb::{Durability, Keyspace};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where it writes.
pub(super) const KEYSPACE: &str = "recover";
/// The option that makes a process one of these.
pub(super) const OPTION: &str = "--victim";
/// Between two times that it tells.
const TELLS: Duration = Duration::from_millis(50);
const ORDER_SEED: u64 = 0x0DE2;

/// The entries of one thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    thread: u64,
    threads: u64,
    n: u64,
}

impl Share {
    /// Those of all threads, of `n` entries.
    pub(super) fn all(threads: u32, n: u64) -> Vec<Share> {
        let threads = u64::from(threads);
        (0..threads).map(|thread| Share { thread, threads, n }).collect()
    }

    fn len(self) -> u64 {
        (self.n + self.threads - 1 - self.thread) / self.threads
    }

    /// The entries, in the order in which they are written.
    pub(super) fn entries(self) -> impl Iterator<Item = u64> {
        let order = Permutation::new(self.n, ORDER_SEED);
        (0..self.len()).map(move |at| order.of(self.thread + at * self.threads))
    }
}

/// How many commits of a thread are there, from what each entry of its share holds: none, or some generation.
pub(super) fn commits(found: impl IntoIterator<Item = Option<u64>>) -> std::result::Result<u64, String> {
    let (mut sum, mut first, mut before) = (0, None, None);
    for (at, generation) in found.into_iter().enumerate() {
        // How often it was written.
        let times = generation.map_or(0, |g| g + 1);
        let (first, before) = (*first.get_or_insert(times), before.replace(times).unwrap_or(times));
        if times > before || first - times > 1 {
            return Err(format!(
                "entry {at} of a thread was written {times} times, the one before it {before} times, its first {first}"
            ));
        }
        sum += times;
    }
    Ok(sum)
}

/// Works until it is killed, or nobody listens any more.
pub(super) fn work(args: &Args, out: &mut Output) -> Result<()> {
    let mut place = Place::find(args)?;
    let writes = place.database()?.keyspace(KEYSPACE)?;
    let shares = Share::all(args.threads, args.n);
    let done: Arc<Vec<AtomicU64>> = Arc::new(shares.iter().map(|_| AtomicU64::new(0)).collect());
    let failed = Arc::new(Mutex::new(None));
    let value_len = args.value_size as usize;
    for (thread, share) in shares.into_iter().enumerate() {
        let (writes, done, failed) = (writes.clone(), done.clone(), failed.clone());
        // Nobody waits for its end: it has none.
        drop(spawn(&format!("bench-{thread}"), move || {
            if let Err(error) = write(&writes, share, value_len, &done[thread]) {
                failed.lock().get_or_insert(error);
            }
        })?);
    }
    loop {
        sleep(TELLS);
        // Acquire: pairs with the Release in `write`. Each of these commits has returned, so the flush makes it durable.
        let told: Vec<u64> = done.iter().map(|done| done.load(Ordering::Acquire)).collect();
        writes.database().flush()?;
        if let Some(error) = failed.lock().take() {
            return Err(error);
        }
        out.object(&told)?;
        out.flush()?;
    }
}

fn write(writes: &Keyspace, share: Share, value_len: usize, done: &AtomicU64) -> Result<()> {
    let mut value = Vec::new();
    let endless = (0..).flat_map(|generation| share.entries().map(move |i| (generation, i)));
    // More threads than entries: some have nothing to do.
    let work = endless.take(if share.len() == 0 { 0 } else { usize::MAX });
    for (count, (generation, i)) in (1..).zip(work) {
        data::value(i, generation, value_len, &mut value);
        writes.insert_with(data::key(i), &value, Durability::Eventual)?;
        done.store(count, Ordering::Release);
    }
    Ok(())
}

/// What its entries hold: how many commits of each thread are there. An error if anything else is there than those leave.
pub(super) fn survivors(writes: &Keyspace, set: Contents, threads: u32) -> Result<Vec<u64>> {
    let (mut value, mut there) = (Vec::new(), 0);
    let mut of_share = |share: Share| -> Result<u64> {
        let mut generations = Vec::with_capacity(share.len() as usize);
        for i in share.entries() {
            let found = writes.get_into(data::key(i), &mut value)?;
            generations.push(if found { Some(set.check(i, Some(&value))?) } else { None });
            there += u64::from(found);
        }
        commits(generations).map_err(super::wrong)
    };
    let found = Share::all(threads, set.n).into_iter().map(&mut of_share).collect::<Result<Vec<u64>>>()?;
    match writes.len()? {
        len if len == there => Ok(found),
        len => Err(super::wrong(format!("{len} entries are counted where {there} are"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_entries_once() {
        for (threads, n) in [(1, 10), (3, 10), (4, 3)] {
            let shares = Share::all(threads, n);
            let mut all: Vec<u64> = shares.iter().flat_map(|share| share.entries()).collect();
            assert_eq!(all.len() as u64, shares.iter().map(|share| share.len()).sum::<u64>());
            all.sort_unstable();
            assert!(all.into_iter().eq(0..n), "{threads} {n}");
        }
    }

    #[test]
    fn a_prefix_is_counted_and_all_else_is_damage() {
        let of = |found: &[i64]| commits(found.iter().map(|&g| u64::try_from(g).ok()));
        assert_eq!(of(&[]), Ok(0));
        assert_eq!(of(&[-1, -1]), Ok(0));
        assert_eq!(of(&[0, 0, -1]), Ok(2));
        assert_eq!(of(&[3, 3, 3, 2, 2, 2, 2]), Ok(24));
        assert_eq!(of(&[4, 4]), Ok(10));
        for wrong in [&[0, -1, 0][..], &[-1, 0], &[1, 0, -1], &[5, 3], &[2, 1, 2]] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
