//! A small database as files in memory, and copies of it with some bytes changed.

use ashlar_disk::sim::{Sim, SimFs, SimOptions};
use ashlar_disk::{Access, AlignedBuf, Create, Durability, Fs, IoMode, OpenHow};
use ashlar_tests::geometry::Geometry;
use ashlardb::fault::Fault;
use ashlardb::{Background, Database, Error};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The database's directory.
pub const DIR: &str = "/db";

const BLOCK: usize = 4096;

const GEOMETRY: Geometry = Geometry {
    frames: 32,
    slots_max: 6,
    log_limit: 192 << 10,
    blob_threshold: 4096,
    recovery_window: 2000,
    postponed_limit: None,
    postpone_always: false,
    fault: Fault::None,
};

/// The files of a database: some commits in a checkpoint, some in the log alone, every kind of value, a keyspace of its own for
/// what is dropped.
struct Template {
    files: Vec<(PathBuf, Vec<u8>)>,
}

static TEMPLATE: OnceLock<Template> = OnceLock::new();

/// Opens what is in `fs`.
pub fn open(fs: Arc<SimFs>) -> Result<Database, Error> {
    GEOMETRY.options(Some(fs), Background::Manual).open(DIR)
}

fn fill(db: &Database) -> Result<(), Error> {
    let (left, right, gone) = (db.keyspace("left")?, db.keyspace("right")?, db.keyspace("gone")?);
    for n in 0..60u32 {
        left.insert(format!("key {n:03}"), vec![b'a' + (n % 26) as u8; 10 + 7 * n as usize])?;
        gone.insert(n.to_be_bytes(), n.to_le_bytes())?;
    }
    left.insert("overflow", vec![b'o'; 3000])?;
    left.insert("blob", vec![b'b'; 20_000])?;
    right.insert("", "the empty key")?;
    right.insert("empty value", "")?;
    db.checkpoint()?;
    db.drop_keyspace("gone")?;
    left.insert("blob in the log", vec![b'c'; 9000])?;
    let mut batch = db.batch();
    batch.remove_range(&left, "key 010".."key 020")?;
    batch.insert(&right, "key", "value")?;
    batch.commit()?;
    right.clear()?;
    right.insert("after the clear", "1")
}

impl Template {
    fn make() -> Template {
        let sim = Sim::new(SimOptions::new(1));
        let db = open(sim.fs()).expect("a new database opens");
        fill(&db).expect("the database takes its contents");
        drop(db);
        let fs = sim.fs();
        let mut files = Vec::new();
        for dir in [PathBuf::from(DIR), Path::new(DIR).join("wal")] {
            for name in fs.list(&dir).expect("the directory is there") {
                let path = dir.join(name);
                if let Ok(bytes) = read(&*fs, &path) {
                    files.push((path, bytes));
                }
            }
        }
        Template { files }
    }
}

fn how(access: Access, create: Create) -> OpenHow {
    OpenHow { access, create, mode: IoMode::Direct, block: ashlar_disk::BlockSize::MIN }
}

fn read(fs: &SimFs, path: &Path) -> ashlar_disk::Result<Vec<u8>> {
    let file = fs.open(path, &how(Access::Read, Create::Never))?;
    let mut buf = AlignedBuf::zeroed(file.len()? as usize);
    if !buf.is_empty() {
        file.read(0, &[buf.words_mut()])?;
    }
    Ok(buf.to_vec())
}

fn write(fs: &SimFs, path: &Path, bytes: &[u8]) -> ashlar_disk::Result<()> {
    let file = fs.open(path, &how(Access::ReadWrite, Create::New))?;
    // What is zero is not written: most of a file is, and the simulated disk keeps nothing for it.
    file.set_len(bytes.len() as u64)?;
    for (n, block) in bytes.chunks(BLOCK).enumerate().filter(|(_, block)| block.iter().any(|&b| b != 0)) {
        let mut buf = AlignedBuf::zeroed(BLOCK);
        buf[..block.len()].copy_from_slice(block);
        file.write((n * BLOCK) as u64, &[buf.words_mut()], Durability::Later)?;
    }
    Ok(())
}

/// A machine with the database, changed as `input` says: any number of changes, each a file (1 byte), a place in it (a fraction of
/// its length, 3 bytes), a length (1 byte), and so many bytes. An odd file number: the file is cut off there instead.
pub fn changed(input: &[u8]) -> Arc<SimFs> {
    let template = TEMPLATE.get_or_init(Template::make);
    crate::believe_all();
    let mut files = template.files.clone();
    let mut rest = input;
    while let Some((&[file, a, b, c, len], after)) = rest.split_first_chunk::<5>() {
        let count = files.len();
        let bytes = &mut files[usize::from(file / 2) % count].1;
        let at = (u64::from(u32::from_be_bytes([0, a, b, c])) * bytes.len() as u64 >> 24) as usize;
        let (new, after) = after.split_at(usize::from(len).min(after.len()));
        if file % 2 == 1 {
            bytes.truncate(at / BLOCK * BLOCK);
        } else {
            let end = (at + new.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        rest = after;
    }
    let sim = Sim::new(SimOptions::new(1));
    let fs = sim.fs();
    for dir in [PathBuf::from(DIR), Path::new(DIR).join("wal")] {
        fs.create_dir(&dir).expect("an empty disk");
    }
    for (path, bytes) in &files {
        write(&fs, path, bytes).expect("an empty disk");
    }
    fs
}

/// The number of files, and their names and lengths: for whoever makes changes by hand.
pub fn files() -> Vec<(PathBuf, usize)> {
    TEMPLATE.get_or_init(Template::make).files.iter().map(|(path, bytes)| (path.clone(), bytes.len())).collect()
}
