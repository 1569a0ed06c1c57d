//! How long an open takes: after a close (`reopen`), and after the process that had the database open was killed (`recover`).

use super::choice::Choice;
use super::measured::{Delta, Extra, Measured};
use super::place::Place;
use super::run::{Amount, Sample};
use super::victim::{self, KEYSPACE};
use super::workloads::Bench;
use super::wrong;
use crate::error::{Error, Result};
use crate::progress::Spinner;
use ashlar_disk::sync::{now, sleep};
use ashlar_workload::Random;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Opens of `reopen`: at least, and at most.
const OPENS: std::ops::RangeInclusive<u64> = 5..=1000;
/// Processes that `recover` kills.
const KILLS: u32 = 3;
/// Until a process under load has to have told something.
const PATIENCE: Duration = Duration::from_secs(120);

impl Sample {
    /// An operation that was timed by itself: what is between two of them does not count.
    fn add_alone(&mut self, amount: Amount, took: Duration) {
        self.elapsed += took;
        self.add(amount, took, self.elapsed);
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Bench<'_> {
    /// Closes the database and opens it again, several times.
    pub(super) fn reopen(&self, place: &mut Place) -> Result<Measured> {
        drop(self.loaded(place)?);
        self.opens(Choice::Reopen.name(), place)
    }

    /// The same, with the data set loaded.
    pub(super) fn opens(&self, name: String, place: &mut Place) -> Result<Measured> {
        let _spinner = Spinner::start(self.out, name.clone())?;
        let (mut closes, mut reads) = (Vec::new(), Vec::new());
        let (mut sample, mut random, begin) = (Sample::empty(1)?, Random::new(1), now());
        let limit = Duration::from_secs_f64(self.args.seconds);
        let mut engine = Delta::default();
        while sample.ops < *OPENS.start() || (now() - begin < limit && sample.ops < *OPENS.end()) {
            let closing = now();
            place.close()?;
            closes.push(now() - closing);
            let opening = now();
            let db = place.database()?;
            sample.add_alone(Amount::default(), now() - opening);
            engine = Delta::since_open(&db.stats());
            let (data, i) = (place.data()?, random.below(self.set.n));
            let (mut value, reading) = (Vec::new(), now());
            self.on_data(&data, 0).look(i, &mut value)?;
            reads.push(now() - reading);
            let len = data.len()?;
            if len != self.set.n {
                return Err(wrong(format!("{len} entries are there after an open, {} were before", self.set.n)));
            }
        }
        let mut measured = Measured::alone(name, sample, engine);
        measured.extra = vec![("close", Extra::Time(median(closes))), ("first read", Extra::Time(median(reads)))];
        Ok(measured)
    }

    /// Opens the database after a process was killed that wrote to it, and checks what is there.
    pub(super) fn recover(&self, place: &mut Place) -> Result<Measured> {
        let (mut sample, mut survived, mut engine) = (Sample::empty(1)?, 0, Delta::default());
        for _ in 0..KILLS {
            let _spinner = Spinner::start(self.out, Choice::Recover.name())?;
            // Each begins with nothing. The close makes a checkpoint, so that all there is to replay is of the process.
            place.database()?.keyspace(KEYSPACE)?.clear()?;
            place.close()?;
            let told = load_and_kill(Duration::from_secs_f64(self.args.seconds / f64::from(KILLS)))?;
            let opening = now();
            let db = place.database()?;
            let took = now() - opening;
            let stats = db.stats();
            sample.add_alone(self.set.amount(stats.replayed), took);
            engine = Delta::since_open(&stats);
            survived += self.check_survivors(place, &told)?;
        }
        place.database()?.keyspace(KEYSPACE)?.clear()?;
        let per_second = sample.rate(sample.moved.entries);
        let extra = vec![
            ("replayed", Extra::Count(sample.moved.entries)),
            ("replayed", Extra::Rate(per_second)),
            ("commits found", Extra::Count(survived)),
        ];
        Ok(Measured { extra, ..Measured::alone(Choice::Recover.name(), sample, engine) })
    }

    /// Every entry is there as it was last written, and no commit is missing that was durable. How many there are.
    fn check_survivors(&self, place: &mut Place, told: &[u64]) -> Result<u64> {
        let writes = place.database()?.keyspace(KEYSPACE)?;
        let found = victim::survivors(&writes, self.set, self.args.threads)?;
        missing(told, &found).map_or_else(|| Ok(found.iter().sum()), |what| Err(wrong(what)))
    }
}

/// Where a thread's durable commits are not all there.
fn missing(told: &[u64], found: &[u64]) -> Option<String> {
    if told.len() != found.len() {
        return Some(format!("{} threads have told of their commits, not {}", told.len(), found.len()));
    }
    let (thread, (told, found)) = told.iter().zip(found).enumerate().find(|(_, (told, found))| found < told)?;
    Some(format!("of {told} commits of thread {thread} that were durable when the process was killed only {found} are there"))
}

/// Kills its process, whatever happens.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this program again, as the process under load, and kills it so long after it has begun to tell: what it told last.
fn load_and_kill(after: Duration) -> Result<Vec<u64>> {
    let program = std::env::current_exe().map_err(|e| Error::file("finding", "this program", e))?;
    let mut command = Command::new(program);
    // With the same arguments, and so the same options.
    command.args(std::env::args_os().skip(1)).arg(victim::OPTION).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Victim(command.spawn().map_err(|e| Error::file("starting", "a process", e))?);
    let Some(stdout) = child.0.stdout.take() else { return Err(ended("it has no stdout")) };
    let (lines, told) = channel();
    let listen = move || BufReader::new(stdout).lines().map_while(|line| line.ok()).try_for_each(|line| lines.send(line));
    let listener = std::thread::spawn(listen);
    let first = told.recv_timeout(PATIENCE).map_err(|e| match e {
        RecvTimeoutError::Timeout => ended("it has told nothing for two minutes"),
        RecvTimeoutError::Disconnected => ended("it has ended by itself"),
    })?;
    sleep(after);
    if let Some(status) = child.0.try_wait().map_err(|e| Error::file("waiting for", "a process", e))? {
        return Err(ended(&format!("it has ended by itself, {status}")));
    }
    drop(child);
    // The pipe is closed, and the listener's channel, when all is read.
    let _ = listener.join();
    last(first, &told)
}

/// The last whole line.
fn last(first: String, told: &Receiver<String>) -> Result<Vec<u64>> {
    let parse = |line: &str| serde_json::from_str::<Vec<u64>>(line);
    let mut best = parse(&first).map_err(|e| ended(&format!("what it tells is no list of counts: {e}")))?;
    for line in told.iter() {
        // Cut off by the kill: as if it had not been told.
        let Ok(counts) = parse(&line) else { break };
        best = counts;
    }
    Ok(best)
}

fn ended(what: &str) -> Error {
    Error::Usage(format!("the process under load could not be used: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_left_out() {
        let (lines, told) = channel();
        for line in ["[3,4]", "[5,6]", "[7"] {
            lines.send(line.to_owned()).unwrap();
        }
        drop(lines);
        assert_eq!(last("[1,2]".into(), &told).unwrap(), [5, 6]);
        assert!(last("?".into(), &told).is_err());
    }

    #[test]
    fn a_durable_commit_that_is_gone_is_told() {
        assert_eq!(missing(&[5, 6], &[5, 9]), None);
        assert!(missing(&[5, 6], &[9, 5]).unwrap().starts_with("of 6 commits of thread 1 "));
        assert!(missing(&[5], &[5, 6]).is_some());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3, 9, 1].map(Duration::from_millis).into()), Duration::from_millis(3));
        assert_eq!(median(Vec::new()), Duration::ZERO);
    }
}
