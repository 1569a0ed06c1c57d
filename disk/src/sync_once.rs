//! A file whose failed sync is never made good by a later one.
//!
//! A sync that fails may have dropped what it was to make durable, whoever wrote that; the next one succeeds, and says nothing about it. So
//! 1. after a failed sync every later one fails with the same error;
//! 2. syncs run one after another, so that none is under way beside one that fails and takes something with it. Whoever calls while one
//!    runs shares the next with all who do.

use crate::fs::{Alignment, File};
use crate::sync::{Condvar, Mutex};
use crate::words::Words;
use crate::{Durability, Error, Result, SyncKind};
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Default)]
struct Turns {
    /// How many syncs have begun.
    begun: u64,
    /// How many have ended, all of them well.
    ended: u64,
    running: bool,
    /// Somebody who waits for the next one wants all metadata.
    wants_all: bool,
    failed: Option<Error>,
}

/// See the module. Every other call goes to the file itself.
#[derive(Debug)]
pub struct SyncOnce {
    inner: Arc<dyn File>,
    turns: Mutex<Turns>,
    changed: Condvar,
}

impl SyncOnce {
    /// `inner`, of which nobody else may sync what is written through this one.
    pub fn over(inner: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(SyncOnce { inner, turns: Mutex::new(Turns::default()), changed: Condvar::new() })
    }
}

impl File for SyncOnce {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, into: &[&Words]) -> Result<()> {
        self.inner.read(offset, into)
    }
    fn write(&self, offset: u64, from: &[&Words], durability: Durability) -> Result<()> {
        self.inner.write(offset, from, durability)
    }

    fn sync(&self, kind: SyncKind) -> Result<()> {
        let mut turns = self.turns.lock();
        // The one under way may have begun before what is to be durable was written.
        let needed = turns.begun + 1;
        turns.wants_all |= kind == SyncKind::All;
        loop {
            if let Some(error) = &turns.failed {
                return Err(error.clone());
            }
            if turns.ended >= needed {
                return Ok(());
            }
            if !turns.running {
                break;
            }
            self.changed.wait(&mut turns);
        }
        (turns.running, turns.begun) = (true, turns.begun + 1);
        let kind = if std::mem::take(&mut turns.wants_all) { SyncKind::All } else { SyncKind::Data };
        drop(turns);
        let outcome = self.inner.sync(kind);
        let mut turns = self.turns.lock();
        turns.running = false;
        match &outcome {
            Ok(()) => turns.ended = turns.begun,
            Err(error) => turns.failed = Some(error.clone()),
        }
        drop(turns);
        self.changed.notify_all();
        outcome
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.inner.allocate(offset, len)
    }
    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.inner.punch_hole(offset, len)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.inner.set_len(len)
    }
    fn alignment(&self) -> Alignment {
        self.inner.alignment()
    }
    fn resident_pages(&self) -> Result<Option<u64>> {
        self.inner.resident_pages()
    }
    fn drop_cache(&self) -> Result<()> {
        self.inner.drop_cache()
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self.inner.as_any()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Access, Create, Fs, IoMode, OpenHow};
    use crate::sim::{FaultKind, FaultRates, Restart, Sim, SimOptions};
    use crate::sync::spawn;
    use crate::{AlignedBuf, BlockSize};

    fn file(fs: &dyn Fs) -> Arc<dyn File> {
        let how = OpenHow { access: Access::ReadWrite, create: Create::New, mode: IoMode::Direct, block: BlockSize::MIN };
        let file = fs.open(Path::new("/f"), &how).expect("made");
        fs.sync_dir(Path::new("/")).expect("synced");
        SyncOnce::over(file)
    }

    fn write(file: &dyn File, block: u64) {
        file.write(block * 4096, &[AlignedBuf::from_bytes(&[7; 4096]).words()], Durability::Later).expect("written");
    }

    #[test]
    fn after_a_failed_sync_every_later_one_fails() {
        let sim = Sim::new(SimOptions::new(1));
        let file = file(&*sim.fs());
        write(&*file, 0);
        file.sync(SyncKind::All).expect("synced");
        sim.set_faults(FaultRates::none().with(FaultKind::SyncError, FaultRates::OF));
        let first = file.sync(SyncKind::Data).expect_err("struck");
        sim.set_faults(FaultRates::none());
        write(&*file, 1);
        assert_eq!(file.sync(SyncKind::All), Err(first));
    }

    /// Four threads write two blocks each and sync after each: which blocks were confirmed. Nothing, if the file could not be made.
    fn blocks_confirmed(fs: Arc<dyn Fs>) -> Vec<(u64, bool)> {
        let how = OpenHow { access: Access::ReadWrite, create: Create::New, mode: IoMode::Direct, block: BlockSize::MIN };
        let Ok(file) = fs.open(Path::new("/f"), &how).map(SyncOnce::over) else { return Vec::new() };
        let made = file.set_len(8 * 4096).and_then(|()| file.sync(SyncKind::All)).and_then(|()| fs.sync_dir(Path::new("/")));
        if made.is_err() {
            return Vec::new();
        }
        let outcomes: Arc<Mutex<Vec<(u64, bool)>>> = Arc::default();
        let work = |first: u64| {
            let (file, outcomes) = (file.clone(), outcomes.clone());
            move || {
                for block in [first, first + 4] {
                    write(&*file, block);
                    let synced = file.sync(if first == 0 { SyncKind::All } else { SyncKind::Data }).is_ok();
                    outcomes.lock().push((block, synced));
                }
            }
        };
        let threads: Vec<_> = (0..4).map(|first| spawn("writer", work(first)).expect("started")).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        std::mem::take(&mut *outcomes.lock())
    }

    #[test]
    fn what_is_confirmed_beside_failing_syncs_is_durable() {
        let (mut confirmed, mut failed) = (0, 0);
        for seed in 0..300 {
            let rates = FaultRates::none().with(FaultKind::SyncError, FaultRates::OF / 6);
            let sim = Sim::new(SimOptions::new(seed).faults(rates));
            let fs = sim.fs();
            let outcomes = sim.run(move || blocks_confirmed(fs)).expect("ran");
            let cut = sim.restart(Restart::PowerCut, SimOptions::new(seed)).fs();
            let how = OpenHow { access: Access::Read, create: Create::Never, mode: IoMode::Direct, block: BlockSize::MIN };
            failed += outcomes.iter().filter(|(_, synced)| !synced).count();
            for (block, _) in outcomes.into_iter().filter(|(_, synced)| *synced) {
                confirmed += 1;
                let file = cut.open(Path::new("/f"), &how).expect("there");
                let buf = AlignedBuf::zeroed(4096);
                file.read(block * 4096, &[buf.words()]).expect("readable");
                assert!(buf.iter().all(|&b| b == 7), "seed {seed}: block {block} was confirmed and is gone");
            }
        }
        assert!(confirmed > 100 && failed > 100, "{confirmed} {failed}");
    }
}
