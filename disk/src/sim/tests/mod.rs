//! Each rule of the contract in [`fs`](crate::fs) as a test that looks at what many restarts find.

mod calls;
mod crashes;
mod data;
mod faults;
mod names;
mod queue;
mod runs;

use super::*;
use crate::fs::{Access, Create, Durability, File, Fs, IoMode, OpenHow, SyncKind};
use crate::{AlignedBuf, BlockSize, Error, Result};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

pub(super) const BLOCK: usize = 4096;

pub(super) fn how(create: Create) -> OpenHow {
    OpenHow { access: Access::ReadWrite, create, mode: IoMode::Direct, block: BlockSize::MIN }
}

pub(super) fn create(fs: &SimFs, path: &str) -> Arc<dyn File> {
    fs.open(Path::new(path), &how(Create::New)).expect("created")
}

pub(super) fn open(fs: &SimFs, path: &str) -> Result<Arc<dyn File>> {
    fs.open(Path::new(path), &how(Create::Never))
}

/// A file whose name and `blocks` blocks of `byte` are durable.
pub(super) fn durable_file(fs: &SimFs, path: &str, blocks: u64, byte: u8) -> Arc<dyn File> {
    let file = create(fs, path);
    (0..blocks).for_each(|n| write(&file, n, byte, Durability::Later).expect("written"));
    file.sync(SyncKind::All).expect("synced");
    fs.sync_dir(Path::new(path).parent().expect("a directory")).expect("synced");
    file
}

pub(super) fn write(file: &Arc<dyn File>, block: u64, byte: u8, durability: Durability) -> Result<()> {
    file.write(block * BLOCK as u64, &[AlignedBuf::from_bytes(&[byte; BLOCK]).words()], durability)
}

/// The bytes of a block, each sector as its one byte.
pub(super) fn sectors(file: &Arc<dyn File>, block: u64) -> Result<Vec<u8>> {
    let buf = AlignedBuf::zeroed(BLOCK);
    file.read(block * BLOCK as u64, &[buf.words()])?;
    let sectors = buf.chunks(content::SECTOR);
    Ok(sectors.map(|s| if s.iter().all(|&b| b == s[0]) { s[0] } else { panic!("a sector is torn: {s:?}") }).collect())
}

/// What a block holds, `"1"`, or of what it is a mixture, `"1+2"`, or why it can't be read.
pub(super) fn found(fs: &SimFs, path: &str, block: u64) -> String {
    let bytes = match open(fs, path).and_then(|file| sectors(&file, block)) {
        Ok(bytes) => bytes.into_iter().collect::<BTreeSet<_>>(),
        Err(Error::Short { .. }) => return "short".into(),
        Err(e) if e.is_not_found() => return "gone".into(),
        Err(e) => panic!("{e}"),
    };
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join("+")
}

/// What `look` sees after power cuts of many seeds, each after `build`.
pub(super) fn after_power_cuts<T: Ord + Debug>(build: impl Fn(&SimFs), look: impl Fn(&SimFs) -> T) -> BTreeSet<T> {
    let restarts = (0..400).map(|seed| {
        let sim = Sim::new(SimOptions::new(seed));
        build(&sim.fs());
        sim.restart(Restart::PowerCut, SimOptions::new(seed))
    });
    restarts.map(|sim| look(&sim.fs())).collect()
}

pub(super) fn set<const N: usize>(items: [&str; N]) -> BTreeSet<String> {
    items.into_iter().map(str::to_owned).collect()
}
