//! `ashlar stress fork`: this process forks again and again while it works on a database with many transfers in flight.
//!
//! Children end at once, live for a while and write to memory, try to use the database, or become another program that tries to open it.
//! What they see must be refused and left alone; every byte that this process reads and writes must stay right, and the lock its own.
//! Half of the forks go beside `io_uring`, half beside a pool of threads.
//!
//! A child calls only what the engine refuses at its door, `_exit` and `exec`: another thread may have held any lock when it was made.

use super::check::{self, History};
use super::journal::{Event, Journal};
use super::kill::WRITERS;
use super::load;
use super::ops::Size;
use super::part::{self, Part};
use super::plan::{End, Plan, Queue};
use crate::error::{Error, Outcome, Result};
use crate::output::Output;
use crate::progress::Progress;
use ashlar_disk::sync::Mutex;
use ashlardb::{Database, Durability};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use serde_json::json;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than any child needs.
const CHILD_MAX: Duration = Duration::from_secs(60);

const AFTER: &str = "Makes a database in DIR/ashlar-stress, and removes it if all is well.

With --json: one object at the end.

Exit status 1: a child could use the database, or a byte or the lock of this process was harmed.";

/// Fork beside heavy I/O, and check that no child touches anything
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Where the database is made
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Forks
    #[arg(long, value_name = "N", default_value_t = 100)]
    runs: u32,
    /// Decides what the threads do
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
}

/// Runs it.
pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let db = super::new_database(&args.dir)?;
    let begin = Instant::now();
    let mut progress = Progress::new(out, "forking", Some(args.runs.into()));
    let history = Arc::new(Mutex::new(History::new(args.seed, Size::Large)));
    let mut sum = Sum { next: vec![1; WRITERS], ..Sum::default() };
    let mut wrong = None;
    for (life, queue) in [Queue::Uring, Queue::Threads].into_iter().enumerate() {
        let forks = (args.runs + 1 - life as u32) / 2;
        let storm = Storm { args, db: &db, queue, life: life as u32 + 1, forks, history: &history };
        if let Err(what) = storm.run(&mut sum, &mut progress)? {
            wrong = Some(format!("with {queue:?}: {what}"));
            break;
        }
    }
    drop(progress);
    report(args, &db, &sum, begin.elapsed(), wrong.as_deref(), out)?;
    if wrong.is_some() {
        return Ok(Outcome::No);
    }
    std::fs::remove_dir_all(&db).map_err(|e| Error::file("removing", &db, e))?;
    Ok(Outcome::Done)
}

#[derive(Default)]
struct Sum {
    next: Vec<u32>,
    forks: [u64; KINDS.len()],
    commits: u64,
    bytes_read: u64,
    bytes_written: u64,
    skipped: Option<String>,
}

/// What a child does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    EndsAtOnce,
    WritesMemory,
    UsesTheDatabase,
    BecomesAnother,
}

const KINDS: [Kind; 4] = [Kind::EndsAtOnce, Kind::WritesMemory, Kind::UsesTheDatabase, Kind::BecomesAnother];

struct Storm<'a> {
    args: &'a Args,
    db: &'a Path,
    queue: Queue,
    life: u32,
    forks: u32,
    history: &'a Arc<Mutex<History>>,
}

impl Storm<'_> {
    fn plan(&self, next: Vec<u32>) -> Plan {
        let (db, seed, life) = (self.db.to_owned(), self.args.seed, self.life);
        let (end, size, queue) = (End::Close, Size::Large, Some(self.queue));
        Plan { db, journal: None, seed, life, next, millis: 0, end, size, lie: None, queue }
    }

    fn run(&self, sum: &mut Sum, progress: &mut Progress) -> Result<std::result::Result<(), String>> {
        let plan = self.plan(sum.next.clone());
        // A cache so small that pages come and go all the time.
        let db = match plan.options().cache_size(1 << 20).open(self.db) {
            Err(e) if self.queue == Queue::Uring && e.to_string().contains("io_uring") => {
                sum.skipped = Some(e.to_string());
                return Ok(Ok(()));
            }
            db => db?,
        };
        let heard = self.history.clone();
        let journal = Journal::new(move |event| {
            heard.lock().hear(event);
            Ok(())
        });
        let stranger = Part::Stranger { db: self.db.to_owned(), owner: std::process::id() };
        let exec = Exec::new(&stranger)?;
        let mut storm = Ok(());
        let worked = load::work(&db, &plan, &journal, |work| storm = self.blow(work, &exec, sum, progress));
        if let Err(what) = worked.and(storm) {
            return Ok(Err(what));
        }
        let stats = db.stats();
        sum.bytes_read += stats.bytes_read;
        sum.bytes_written += stats.bytes_written;
        db.close()?;
        let mut history = self.history.lock();
        history.hear(Event::Closed);
        sum.next = history.next(&sum.next);
        Ok(check::look(&self.plan(Vec::new()), &mut history).map(|survivors| sum.commits += survivors.commits))
    }

    /// All forks, one after the other, as long as the work goes on.
    fn blow(
        &self,
        work: &load::Work<'_>,
        exec: &Exec,
        sum: &mut Sum,
        progress: &mut Progress,
    ) -> std::result::Result<(), String> {
        let db = work.db;
        std::thread::sleep(Duration::from_millis(100));
        let shared = db.existing_keyspace(load::SHARED).map_err(|e| e.to_string())?.ok_or("no keyspace to try")?;
        let mut memory = vec![0u8; 1 << 20];
        for n in (0..self.forks).take_while(|_| work.goes_on()) {
            let kind = KINDS[n as usize % KINDS.len()];
            // SAFETY: the child runs only what `Kind::child` does: calls that the engine refuses before they take a lock, writes to memory
            // that is there, `exec` with what was prepared before, and `_exit`.
            let forked = unsafe { nix::unistd::fork() }.map_err(|e| format!("fork: {e}"))?;
            match forked {
                ForkResult::Child => {
                    let status = child(kind, db, &shared, exec, &mut memory);
                    // SAFETY: ends this process at once: no destructor runs, nothing of the parent's is flushed or unlocked.
                    unsafe { libc::_exit(status) }
                }
                ForkResult::Parent { child } => wait(child).map_err(|what| format!("fork {n}, a child that {kind:?}: {what}"))?,
            }
            sum.forks[n as usize % KINDS.len()] += 1;
            progress.step(1, String::new);
        }
        Ok(())
    }
}

/// A program's start, with all that it takes made before the fork.
struct Exec {
    program: CString,
    args: Vec<CString>,
}

impl Exec {
    fn new(part: &Part) -> Result<Exec> {
        let program = std::env::current_exe().map_err(|e| Error::file("finding", "this program", e))?;
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|e| Error::Usage(format!("a command line: {e}")));
        let program = text(std::os::unix::ffi::OsStringExt::into_vec(program.into_os_string()))?;
        let words = [b"ashlar".to_vec(), b"stress".to_vec(), b"part".to_vec(), part::json(part)?.into_bytes()];
        Ok(Exec { program, args: words.into_iter().map(text).collect::<Result<_>>()? })
    }
}

/// What the calls of a child have given, as its exit status: 0 is right, above 100 it names the call that was not refused.
fn child(kind: Kind, db: &Database, shared: &ashlardb::Keyspace, exec: &Exec, memory: &mut [u8]) -> i32 {
    match kind {
        Kind::EndsAtOnce => 0,
        Kind::WritesMemory => {
            for round in 0..5u8 {
                memory.fill(round);
                std::thread::sleep(Duration::from_micros(500));
            }
            0
        }
        Kind::UsesTheDatabase => uses(db, shared),
        Kind::BecomesAnother => {
            let _ = nix::unistd::execv(&exec.program, &exec.args);
            100
        }
    }
}

fn uses(db: &Database, shared: &ashlardb::Keyspace) -> i32 {
    let refused = [
        is_refused(shared.get("a key")),
        is_refused(shared.get_many(["a key"])),
        is_refused(shared.insert("a key", "a value")),
        is_refused(shared.insert_with("a key", [1; 2000], Durability::Eventual)),
        is_refused(shared.remove("a key")),
        is_refused(shared.remove_range("a".."z")),
        is_refused(shared.clear()),
        is_refused(shared.len()),
        is_refused(shared.iter().next().transpose()),
        is_refused(db.begin()),
        is_refused(db.snapshot()),
        is_refused(db.keyspace("another")),
        is_refused(db.drop_keyspace(load::SHARED)),
        is_refused(db.flush()),
        is_refused(db.checkpoint()),
        is_refused(db.compact()),
        is_refused(db.verify()),
        is_refused(db.clone().close()),
    ];
    refused.iter().zip(101..).find(|(refused, _)| !**refused).map_or(0, |(_, status)| status)
}

fn is_refused<T>(outcome: ashlardb::Result<T>) -> bool {
    matches!(outcome, Err(ashlardb::Error::ForkedChild))
}

fn wait(child: Pid) -> std::result::Result<(), String> {
    let until = Instant::now() + CHILD_MAX;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).map_err(|e| format!("waitpid: {e}"))? {
            WaitStatus::StillAlive if Instant::now() < until => std::thread::sleep(Duration::from_micros(200)),
            WaitStatus::StillAlive => {
                let _ = kill(child, Signal::SIGKILL);
                let _ = waitpid(child, None);
                return Err(format!("it has not ended after {} s", CHILD_MAX.as_secs()));
            }
            WaitStatus::Exited(_, 0) => return Ok(()),
            WaitStatus::Exited(_, status @ 101..) => return Err(format!("its call {} was not refused", status - 101)),
            other => return Err(format!("{other:?}")),
        }
    }
}

fn report(args: &Args, db: &Path, sum: &Sum, time: Duration, wrong: Option<&str>, out: &mut Output) -> Result<()> {
    let forks: u64 = sum.forks.iter().sum();
    let repeat = format!("ashlar stress fork --dir DIR --seed {} --runs {}", args.seed, args.runs);
    let [ended, wrote, used, became] = sum.forks;
    if out.is_json() {
        return out.object(&json!({
            "forks": forks, "ended_at_once": ended, "wrote_memory": wrote, "used_the_database": used, "became_another": became,
            "commits": sum.commits, "bytes_read": sum.bytes_read, "bytes_written": sum.bytes_written,
            "seconds": time.as_secs_f64(), "seed": args.seed, "skipped": sum.skipped, "failure": wrong,
            "kept": wrong.map(|_| db.display().to_string()), "repeat": wrong.map(|_| &repeat),
        }));
    }
    out.line(format_args!("forks           {forks} in {:.1} s, seed {}", time.as_secs_f64(), args.seed))?;
    out.line(format_args!(
        "children        {ended} ended at once, {wrote} wrote to memory, {used} tried the database, {became} became another program"
    ))?;
    let (read, written) = (crate::units::bytes(sum.bytes_read), crate::units::bytes(sum.bytes_written));
    out.line(format_args!("meanwhile       {} commits, {read} read, {written} written", sum.commits))?;
    if let Some(why) = &sum.skipped {
        out.line(format_args!("skipped         io_uring: {why}"))?;
    }
    if let Some(what) = wrong {
        out.line(format_args!("FAILED          {what}"))?;
        out.line(format_args!("kept            {}", db.display()))?;
        out.line(format_args!("repeat          {repeat}"))?;
    }
    Ok(())
}
