//! Loaded data sets: kept for rows that only read, copied for those that change them.
//!
//! ```text
//!   DIR/data/<engine>-<n>-<value size>-<order>-<profile>/   db/     the engine's files
//!                                                           about   what is loaded, written when it is whole
//!                                                           in-use  there while a row works in db/
//! ```
//!
//! 1. A data set without `about` is not whole, one with `in-use` may have been left by a killed row: both are loaded anew.
//! 2. A row that writes gets a copy (a reflink where the file system can), which is removed afterwards.

use crate::cached;
use crate::engines;
use crate::row::{self, Plan};
use crate::workload::Start;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a loaded data set is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct About {
    engine: String,
    version: String,
    n: u64,
    value_size: u64,
    loaded: row::Loaded,
    cache_bytes: u64,
}

/// The data set that a row works on.
pub struct Stage {
    home: PathBuf,
    /// Where the row works.
    dir: PathBuf,
    is_copy: bool,
}

fn about(plan: &Plan) -> Result<About> {
    let spec = engines::find(engines::find(&plan.engine)?.data_of())?;
    Ok(About {
        engine: spec.name.to_owned(),
        version: spec.version(),
        n: plan.n,
        value_size: plan.value_size,
        loaded: plan.loaded,
        cache_bytes: plan.cache_bytes(),
    })
}

/// The directory of the data set that a row needs, below `data`.
///
/// # Errors
/// There is no such engine.
pub fn home(plan: &Plan, data: &Path) -> Result<PathBuf> {
    let engine = engines::find(&plan.engine)?.data_of();
    let order = match plan.loaded {
        row::Loaded::Rand => "rand",
        row::Loaded::Bulk => "bulk",
    };
    Ok(data.join(format!("{engine}-{}-{}-{order}-{}", plan.n, plan.value_size, plan.profile.name())))
}

/// Whether the data set in `home` is whole and the one that is wanted.
fn is_whole(plan: &Plan, home: &Path) -> Result<bool> {
    let there = std::fs::read(home.join("about")).ok().and_then(|text| serde_json::from_slice::<About>(&text).ok());
    Ok(there == Some(about(plan)?) && !home.join("in-use").exists())
}

/// Makes ready what a row needs. `load` loads a data set into an empty directory, in a process of its own.
///
/// # Errors
/// Loading or copying fails.
pub fn prepare(plan: &Plan, data: &Path, load: impl FnOnce(&Path) -> Result<()>) -> Result<Stage> {
    let copy = data.join("row");
    remove(&copy)?;
    if !row::needs_data(plan) {
        make(&copy)?;
        return Ok(Stage { home: copy.clone(), dir: copy, is_copy: true });
    }
    let home = home(plan, data)?;
    let db = home.join("db");
    if !is_whole(plan, &home)? {
        remove(&home)?;
        make(&db)?;
        load(&db).with_context(|| format!("loading {}", home.display()))?;
        cached::drop_files(&db)?;
        row::write(&home.join("about"), &about(plan)?)?;
    }
    let in_place = plan.workload.start() == Start::Loaded && engines::find(&plan.engine)?.reads_in_place;
    if in_place {
        std::fs::write(home.join("in-use"), b"").context("marking a data set as in use")?;
        return Ok(Stage { home, dir: db, is_copy: false });
    }
    let copied = Command::new("cp").args(["-a", "--reflink=auto", "--sparse=auto"]).arg(&db).arg(&copy).status();
    ensure!(copied.context("running cp")?.success(), "copying {} failed", db.display());
    cached::drop_files(&db)?;
    cached::drop_files(&copy)?;
    Ok(Stage { home, dir: copy, is_copy: true })
}

impl Stage {
    /// Where the row works.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The row has ended well: the data set may be used again, a copy goes.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn leave(self) -> Result<()> {
        if self.is_copy {
            return remove(&self.dir);
        }
        std::fs::remove_file(self.home.join("in-use")).context("marking a data set as free")
    }
}

/// Checks that a directory is what a row may begin with.
///
/// # Errors
/// It is not.
pub fn check_start(plan: &Plan, dir: &Path) -> Result<()> {
    let empty = cached::files_below(dir)?.is_empty();
    match row::needs_data(plan) {
        true => ensure!(!empty, "{} is empty: load a data set into it with `peers load`", dir.display()),
        false => ensure!(empty, "{} is not empty: a load begins with an empty directory", dir.display()),
    }
    Ok(())
}

fn make(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("removing {}", dir.display())),
    }
}
