//! A piece of work that comes to every kind of call, on a machine where some of them fail, and what is found afterwards.
//!
//! What must be, whatever fails:
//! - nothing panics, nobody waits for ever (the machine's scheduler sees that), no thread is left;
//! - every commit that was confirmed is found afterwards, in order; one whose error says that nothing was applied is not;
//! - once a sync or a durable write of `data` or of the log has failed, no commit is confirmed before the database is opened again; what was
//!   committed before can still be flushed if it was a sync of `data`, since the log has all of it;
//! - reads are right or fail, and one that failed once succeeds then;
//! - what fails is told, with the name of the call and the file; an open that failed once succeeds then;
//! - afterwards the database opens, verifies without a finding, and can be written to.

mod steps;

use super::states::States;
use super::{Call, FailingFs, Hit, Plan, Script};
use crate::dump::{self, Mismatch};
use crate::geometry::Geometry;
use crate::workload::value;
use ashlar_disk::Fs;
use ashlar_disk::sim::{Restart, Sim, SimOptions};
use ashlardb::{Background, Database, Error};
use std::sync::Arc;
use steps::STEPS;

/// What happens after the work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum After {
    /// It goes on to its end, whatever fails, and the database is opened again.
    GoesOn,
    /// Soon after the first error the process is killed.
    Kill,
    /// Soon after the first error the power goes.
    PowerCut,
}

impl After {
    /// All of them.
    pub const ALL: [After; 3] = [After::GoesOn, After::Kill, After::PowerCut];
}

/// What came of a failure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Came {
    /// Nobody was told, and nothing was missed.
    Absorbed,
    /// Somebody was told, and the database took further writes.
    Told,
    /// The database took no more writes until it was opened again.
    Stopped,
    /// It could not be opened, at first.
    NotOpened,
}

/// What a piece of work came to.
#[derive(Debug)]
pub struct Ran {
    /// The calls, in order.
    pub seen: Vec<Call>,
    /// The calls that failed.
    pub hits: Vec<Hit>,
    /// What came of it.
    pub came: Came,
}

/// How a piece of work is done.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// What fails.
    pub plan: Option<Plan>,
    /// What happens then.
    pub after: After,
    /// Whether threads of the database work beside.
    pub background: Background,
    /// Decides what is drawn.
    pub seed: u64,
}

const PATH: &str = "/db";

const GEOMETRY: Geometry = Geometry::SMALLEST;

/// Does the work, and looks at what is left.
///
/// # Errors
/// What is not as it must be.
pub fn run(setting: Setting) -> Result<Ran, String> {
    let machine = Arc::new(Sim::new(SimOptions::new(setting.seed)));
    let script = Script::new(setting.plan);
    let work = Work {
        fs: FailingFs::over(machine.fs(), script.clone()),
        machine: machine.clone(),
        script: script.clone(),
        setting,
        db: None,
        states: States::default(),
        hits_at_open: 0,
        seq: 0,
        errors: Vec::new(),
        came: Came::Absorbed,
    };
    let outcome = machine.run(move || work.all());
    let (mut states, came) = match (outcome.value, outcome.failure) {
        (Some(done), None) => done?,
        (_, failure) => return Err(failure.map_or("it did not return".into(), |f| f.to_string())),
    };
    if outcome.abandoned > 0 || !outcome.left.is_empty() {
        return Err(format!("threads were left running: {:?}", outcome.left));
    }
    let options = SimOptions::new(setting.seed ^ 0x5EED);
    let machine = match setting.after {
        After::GoesOn => machine,
        After::Kill => Arc::new(machine.restart(Restart::Kill, options)),
        After::PowerCut => Arc::new(machine.restart(Restart::PowerCut, options)),
    };
    let fs = machine.fs();
    let outcome = machine.run(move || look(fs, &mut states));
    match (outcome.value, outcome.failure) {
        (Some(looked), None) => looked?,
        (_, failure) => return Err(failure.map_or("looking did not return".into(), |f| f.to_string())),
    }
    Ok(Ran { seen: script.seen(), hits: script.hits(), came })
}

/// Opens what is left, compares and verifies it, and goes on.
fn look(fs: Arc<dyn Fs>, states: &mut States) -> Result<(), String> {
    let open = || GEOMETRY.options(Some(fs.clone()), Background::Manual).open(PATH).map_err(|e| format!("open afterwards: {e}"));
    let db = open()?;
    let found = dump::dump(&db).map_err(|e| format!("reading everything afterwards: {e}"))?;
    states.found(found.clone())?;
    dump::check(&db, &found).map_err(|e| format!("afterwards: {e}"))?;
    dump::verify(&db).map_err(|e| format!("afterwards: {e}"))?;
    let go_on = || -> Result<(), Error> {
        db.keyspace("afterwards")?.insert(b"key", value(1, 5000))?;
        db.checkpoint()?;
        db.compact().map(drop)
    };
    go_on().map_err(|e| format!("going on afterwards: {e}"))?;
    dump::verify(&db).map_err(|e| format!("after going on: {e}"))?;
    drop(db);
    let mut expected = found;
    expected.entry("afterwards".into()).or_default().insert(b"key".to_vec(), value(1, 5000));
    dump::check(&open()?, &expected).map_err(|e| format!("opened once more: {e}"))
}

struct Work {
    fs: Arc<dyn Fs>,
    machine: Arc<Sim>,
    script: Arc<Script>,
    setting: Setting,
    db: Option<Database>,
    states: States,
    /// How many calls had failed when the database was last opened.
    hits_at_open: usize,
    seq: u32,
    errors: Vec<String>,
    came: Came,
}

/// A piece of the work; an error of the database is no failure of the work.
type Done = Result<Result<(), Error>, String>;

impl Work {
    /// Does all of it; gives what may be found afterwards.
    fn all(mut self) -> Result<(States, Came), String> {
        let mut left = usize::MAX;
        for step in STEPS {
            if left == 0 {
                break;
            }
            let before = self.errors.len();
            let done = step(&mut self).map_err(|text| format!("{text} (errors so far: {:?})", self.errors))?;
            if let Err(e) = done {
                self.note(&e)?;
            }
            left = left.saturating_sub(1);
            // Some steps more, which may be refused.
            if self.setting.after != After::GoesOn && self.errors.len() > before && left > 3 {
                left = 3;
            }
        }
        if self.setting.after == After::GoesOn {
            drop(self.db.take());
            // What the last handle makes durable is told to nobody.
        } else {
            self.machine.crash();
            drop(self.db.take());
        }
        self.check_told()?;
        Ok((self.states, self.came))
    }

    fn note(&mut self, e: &Error) -> Result<(), String> {
        if self.script.hits().is_empty() {
            return Err(format!("no call has failed, but: {e} ({e:?})"));
        }
        let came = match e {
            Error::ReadOnly { .. } | Error::OutcomeUnknown { .. } => Came::Stopped,
            _ => Came::Told,
        };
        self.came = self.came.max(came);
        self.errors.push(e.to_string());
        Ok(())
    }

    /// Of what was told something says which call failed, on which file.
    fn check_told(&self) -> Result<(), String> {
        let hits = self.script.hits();
        if hits.is_empty() || self.errors.is_empty() {
            return Ok(());
        }
        let names = |hit: &Hit| self.errors.iter().any(|text| text.contains(&*hit.path.to_string_lossy()));
        if hits.iter().any(names) {
            return Ok(());
        }
        Err(format!("nothing that was told names one of {hits:?}: {:?}", self.errors))
    }

    fn open(&mut self) -> Done {
        self.db = None;
        for _ in 0..2 {
            let options = GEOMETRY.options(Some(self.fs.clone()), self.setting.background);
            match options.open(PATH) {
                Ok(db) => {
                    self.db = Some(db);
                    self.hits_at_open = self.script.hits().len();
                    // Whatever may have survived until here may be what it holds.
                    return self.look_at_all();
                }
                Err(e) => {
                    self.note(&e)?;
                    self.came = self.came.max(Came::NotOpened);
                }
            }
        }
        if self.setting.plan.is_some_and(|plan| plan.from_then_on) {
            return Ok(Ok(()));
        }
        Err("an open that failed once failed again".into())
    }

    /// Right after an open: what is there is there for good.
    fn look_at_all(&mut self) -> Done {
        match self.read_all()? {
            Some(found) => self.states.found(found).map(Ok),
            None => Ok(Ok(())),
        }
    }

    /// Everything, if it can be read.
    fn read_all(&mut self) -> Result<Option<crate::state::State>, String> {
        for _ in 0..2 {
            let Some(db) = self.db.clone() else { return Ok(None) };
            let hits = self.script.hits().len();
            match dump::dump(&db) {
                Ok(found) => match dump::check(&db, &found) {
                    Ok(()) => return Ok(Some(found)),
                    Err(Mismatch::Error(e)) => self.note(&e)?,
                    Err(Mismatch::Wrong(text)) => return Err(text),
                },
                Err(e) => self.note(&e)?,
            }
            if self.script.hits().len() == hits && !self.setting.plan.is_some_and(|plan| plan.from_then_on) {
                return Err(format!("reading failed, and no call has: {:?}", self.errors.last()));
            }
        }
        if self.setting.plan.is_some_and(|plan| plan.from_then_on) {
            return Ok(None);
        }
        Err(format!("reading failed twice: {:?}", self.errors))
    }

    fn look(&mut self) -> Done {
        match self.read_all()? {
            Some(found) => self.states.shows(&found).map(Ok),
            None => Ok(Ok(())),
        }
    }

    /// Calls of the database that commit nothing.
    fn call(&mut self, f: impl FnOnce(&Database) -> Result<(), Error>) -> Done {
        Ok(self.db.as_ref().map_or(Ok(()), f))
    }

    fn flush(&mut self) -> Done {
        let Some(db) = self.db.clone() else { return Ok(Ok(())) };
        let before = self.failed_before(&db);
        let outcome = db.flush();
        if outcome.is_ok() {
            self.check_may_confirm("a flush", before)?;
            self.states.flushed();
        }
        Ok(outcome)
    }

    fn close(&mut self) -> Done {
        let Some(db) = self.db.take() else { return self.open() };
        let before = self.failed_before(&db);
        match db.close() {
            Ok(()) => {
                self.check_may_confirm("a close", before)?;
                self.states.flushed();
            }
            Err(e) => self.note(&e)?,
        }
        self.open()
    }

    /// How many calls have failed that a flush must know of. Where all that it will confirm is durable already it has nothing to write, and
    /// what a thread of the database writes meanwhile (an empty flush, which vouches for the last one) may have failed without its having
    /// been told.
    fn failed_before(&self, db: &Database) -> usize {
        match db.stats().log {
            Some(log) if log.durable >= log.appended && self.came < Came::Stopped => 0,
            _ => self.script.hits().len(),
        }
    }

    /// No commit is confirmed after a sync that has failed, of `data` or of the log; and no flush, whose business is the log alone, after
    /// one of the log. The first `before` calls that failed had done so when it was called. A checkpoint that a durable commit makes may
    /// fail behind it; and beside threads a flush of theirs may, when what is confirmed is durable already. (Whether it is shows in the end.)
    fn check_may_confirm(&self, what: &str, before: usize) -> Result<(), String> {
        let of_data = what == "a commit";
        let beside_threads = self.setting.background == Background::Threads;
        let hits = self.script.hits();
        let is_final = |(n, hit): &(usize, &Hit)| {
            let name = hit.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let of_log = name.ends_with(".wal") && (*n < before || !beside_threads);
            hit.call.is_sync() && (of_log || of_data && *n < before && name == "data")
        };
        let failed = hits.iter().enumerate().skip(self.hits_at_open).find(is_final);
        failed.map_or(Ok(()), |(_, hit)| Err(format!("{what} was confirmed after {hit:?} had failed")))
    }
}
