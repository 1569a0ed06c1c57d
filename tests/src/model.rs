//! Random operations of every kind on a database and on plain ordered maps, every answer compared.
//!
//! One thread. `Machine::step` draws an operation, does it to both, and compares; what it did last is kept for the message.

mod reads;
mod writes;

use crate::dump::{self, Mismatch};
use crate::geometry::Geometry;
use crate::state::{State, Write};
use crate::workload::Keys;
use ashlar_disk::Fs;
use ashlardb::{Background, Create, Database, Keyspace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// Names of the keyspaces that come and go.
const NAMES: [&str; 4] = ["alpha", "beta", "γ/ω", "delta"];

/// How many operations a failure's message tells, unless `ASHLAR_TRAIL` says.
const TRAIL: u64 = 12;

/// A database beside its model.
pub struct Machine {
    rng: ChaCha8Rng,
    geometry: Geometry,
    fs: Option<Arc<dyn Fs>>,
    path: PathBuf,
    db: Database,
    model: State,
    keys: Keys,
    writes: u64,
    trail: VecDeque<String>,
    trail_max: u64,
}

type Checked = Result<(), Mismatch>;

impl Machine {
    /// A new database in `path`, and its empty model.
    ///
    /// # Errors
    /// What creating it gives.
    pub fn new(seed: u64, fs: Option<Arc<dyn Fs>>, path: PathBuf) -> Result<Machine, Mismatch> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let geometry = Geometry::draw(&mut rng);
        let db = geometry.options(fs.clone(), Background::Manual).create(Create::Always).open(&path)?;
        let count = [12, 60, 200][rng.random_range(0..3)];
        let keys = Keys::draw(&mut rng, count, db.key_len_max());
        let trail_max = crate::number("ASHLAR_TRAIL", TRAIL);
        Ok(Machine { rng, geometry, fs, path, db, model: State::new(), keys, writes: 0, trail: VecDeque::new(), trail_max })
    }

    /// Runs `steps` operations and a last look at everything.
    ///
    /// # Errors
    /// The first difference, with the operations before it.
    pub fn run(mut self, steps: u64) -> Result<(), String> {
        // For finding the operation that breaks something: a checkpoint and a look at everything after each so many.
        let check_every = crate::number("ASHLAR_MODEL_CHECK_EVERY", u64::MAX);
        for step in 0..steps {
            self.step().map_err(|e| self.failure(step, &e))?;
            if (step + 1).is_multiple_of(check_every) {
                self.checkpoint().and_then(|()| self.check_all()).map_err(|e| self.failure(step, &e))?;
            }
        }
        self.check_all().map_err(|e| self.failure(steps, &e))
    }

    fn failure(&self, step: u64, e: &Mismatch) -> String {
        let trail: Vec<&str> = self.trail.iter().map(String::as_str).collect();
        format!("step {step}, {:?}: {e}\nafter:\n  {}", self.geometry, trail.join("\n  "))
    }

    fn note(&mut self, what: String) {
        if self.trail.len() as u64 == self.trail_max {
            self.trail.pop_front();
        }
        self.trail.push_back(what);
    }

    fn step(&mut self) -> Checked {
        match self.rng.random_range(0..1000) {
            0..500 => self.write(),
            500..940 => self.read(),
            940..975 => self.maintain(),
            975..982 => self.checkpoint(),
            982..985 => self.compact(),
            985..988 => self.check_all(),
            988..991 => self.flush(),
            991..997 => self.reopen(),
            _ => self.look_read_only(),
        }
    }

    fn maintain(&mut self) -> Checked {
        let steps = self.rng.random_range(1..5);
        self.note(format!("maintain, {steps} steps"));
        for _ in 0..steps {
            self.db.maintain()?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Checked {
        self.note("checkpoint".into());
        Ok(self.db.checkpoint()?)
    }

    fn compact(&mut self) -> Checked {
        self.note("compact".into());
        let done = self.db.compact()?;
        // Freeing a dropped keyspace may want a step of room; moving does not.
        if done.after > done.before + done.before / 8 + (256 << 10) {
            return Err(Mismatch::Wrong(format!("compacting made the file longer: {done:?}")));
        }
        Ok(())
    }

    fn flush(&mut self) -> Checked {
        self.note("flush".into());
        Ok(self.db.flush()?)
    }

    fn check_all(&mut self) -> Checked {
        self.note("check everything".into());
        dump::check(&self.db, &self.model)?;
        dump::verify(&self.db)
    }

    /// Closes or drops the database and opens it again.
    fn reopen(&mut self) -> Checked {
        let close = self.rng.random();
        self.note(format!("reopen after a {}", if close { "close" } else { "drop" }));
        self.leave(close)?;
        self.db = self.geometry.options(self.fs.clone(), Background::Manual).create(Create::Never).open(&self.path)?;
        dump::check(&self.db, &self.model)
    }

    /// Gives the database up, so that another can be opened: a placeholder stands for it.
    fn leave(&mut self, close: bool) -> Checked {
        let elsewhere = ashlar_disk::sim::Sim::new(ashlar_disk::sim::SimOptions::new(0)).fs();
        let placeholder = self.geometry.options(Some(elsewhere), Background::Manual).open("/placeholder")?;
        let db = std::mem::replace(&mut self.db, placeholder);
        if close { Ok(db.close()?) } else { Ok(()) }
    }

    /// Opens the database read-only, twice at once, looks at everything, tries to write; then opens it for writing again.
    fn look_read_only(&mut self) -> Checked {
        self.note("look read-only".into());
        let close = self.rng.random();
        self.leave(close)?;
        // What the log holds beyond the checkpoint is replayed in memory, and must fit.
        let roomy = Geometry { frames: 4096, ..self.geometry };
        let open = || roomy.options(self.fs.clone(), Background::Manual).read_only(true).open(&self.path);
        let (one, two) = (open()?, open()?);
        dump::check(&one, &self.model)?;
        dump::check(&two, &self.model)?;
        dump::verify(&two)?;
        if let Some(name) = self.model.keys().next()
            && let Some(keyspace) = one.existing_keyspace(name)?
            && keyspace.insert(b"k", b"v").is_ok()
        {
            return Err(Mismatch::Wrong("a read-only database took a write".into()));
        }
        drop((one, two));
        self.db = self.geometry.options(self.fs.clone(), Background::Manual).create(Create::Never).open(&self.path)?;
        Ok(())
    }

    /// A keyspace that is there, made if there is none.
    fn some_keyspace(&mut self) -> Result<Keyspace, Mismatch> {
        let name = NAMES[self.rng.random_range(0..NAMES.len())];
        if !self.model.contains_key(name) {
            self.note(format!("create {name}"));
            Write::Create { keyspace: name.into() }.apply(&mut self.model);
        }
        Ok(self.db.keyspace(name)?)
    }

    fn expect_equal<T: PartialEq>(&self, what: &str, found: &T, expected: &T, show: impl Fn(&T) -> String) -> Checked {
        if found == expected {
            return Ok(());
        }
        Err(Mismatch::Wrong(format!("{what} gives {}, expected {}", show(found), show(expected))))
    }
}
