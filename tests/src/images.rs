//! A file system in memory whose files can be copied at no cost, block by block changed behind the engine's back, and made unreadable: for
//! tests that damage the same database many thousand times.
//!
//! 1. A file is a list of shared blocks: a [snapshot](ImageFs::snapshot) shares them all, and so does a file system made of one.
//! 2. Everything is durable at once; nothing fails but reads of blocks that were [made unreadable](ImageFs::set_unreadable).
//! 3. Transfers of queues are done when they are submitted, and complete when somebody waits or polls.

mod file;
mod queue;

use ashlar_disk::{Create, Error, Fs, Lock, LockMode, Op, OpenHow, Queue, QueueKind, Result};
use file::{Content, ImageFile};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a block of these files.
pub const BLOCK: usize = 4096;

/// A block's bytes.
pub type Block = Arc<[u8; BLOCK]>;

/// What the files of a database hold at one moment.
#[derive(Clone, Debug, Default)]
pub struct Images {
    files: BTreeMap<PathBuf, Vec<Block>>,
    dirs: Vec<PathBuf>,
}

impl Images {
    /// A file's blocks.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn blocks(&self, path: &Path) -> &[Block] {
        &self.files[path]
    }

    /// A file's bytes.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        self.files[path].iter().flat_map(|block| block.iter().copied()).collect()
    }

    /// The files, by their paths.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.keys()
    }
}

/// See the module.
pub struct ImageFs {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    dirs: Vec<PathBuf>,
    locks: BTreeMap<PathBuf, (LockMode, Arc<()>)>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that has panicked meanwhile leaves whole blocks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ImageFs {
    /// An empty one, with the root directory alone.
    pub fn empty() -> Arc<ImageFs> {
        ImageFs::of(&Images { files: BTreeMap::new(), dirs: vec![PathBuf::from("/")] })
    }

    /// One whose files hold what a snapshot has.
    pub fn of(images: &Images) -> Arc<ImageFs> {
        let content = |blocks: &Vec<Block>| Arc::new(Mutex::new(Content::of(blocks.clone())));
        let files = images.files.iter().map(|(path, blocks)| (path.clone(), content(blocks))).collect();
        Arc::new(ImageFs { state: Mutex::new(State { files, dirs: images.dirs.clone(), locks: BTreeMap::new() }) })
    }

    /// What all files hold now.
    pub fn snapshot(&self) -> Images {
        let state = lock(&self.state);
        let files = state.files.iter().map(|(path, content)| (path.clone(), lock(content).blocks.clone())).collect();
        Images { files, dirs: state.dirs.clone() }
    }

    fn content(&self, path: &Path) -> Arc<Mutex<Content>> {
        lock(&self.state).files[path].clone()
    }

    /// A block of a file.
    ///
    /// # Panics
    /// Where there is no such file or block.
    pub fn block(&self, path: &Path, block: u64) -> Block {
        lock(&self.content(path)).blocks[block as usize].clone()
    }

    /// Changes a block, as no program would.
    ///
    /// # Panics
    /// Where there is no such file or block.
    pub fn set_block(&self, path: &Path, block: u64, bytes: Block) {
        lock(&self.content(path)).blocks[block as usize] = bytes;
    }

    /// Makes a block unreadable, or readable again.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn set_unreadable(&self, path: &Path, block: u64, unreadable: bool) {
        let content = self.content(path);
        let mut content = lock(&content);
        if unreadable {
            content.unreadable.insert(block)
        } else {
            content.unreadable.remove(&block)
        };
    }

    /// From now on keeps everything that is written to that file: see [`ImageFs::history`].
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn keep_history(&self, path: &Path) {
        lock(&self.content(path)).history = Some(Vec::new());
    }

    /// The blocks that were written to a file and what stood there before, oldest first.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn history(&self, path: &Path) -> Vec<(u64, Block)> {
        lock(&self.content(path)).history.clone().unwrap_or_default()
    }
}

impl std::fmt::Debug for ImageFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageFs({} files)", lock(&self.state).files.len())
    }
}

fn error<T>(op: Op, path: &Path, kind: ErrorKind) -> Result<T> {
    let errno = match kind {
        ErrorKind::NotFound => Some(libc::ENOENT),
        ErrorKind::AlreadyExists => Some(libc::EEXIST),
        _ => None,
    };
    Err(Error::Io { op, path: path.to_owned(), offset: None, errno, kind })
}

impl Fs for ImageFs {
    fn open(&self, path: &Path, how: &OpenHow) -> Result<Arc<dyn ashlar_disk::File>> {
        let mut state = lock(&self.state);
        let content = match (state.files.get(path), how.create) {
            (Some(_), Create::New) => return error(Op::Create, path, ErrorKind::AlreadyExists),
            (None, Create::Never) => return error(Op::Open, path, ErrorKind::NotFound),
            (Some(content), Create::Never) => content.clone(),
            (None, Create::New) => {
                let content = Arc::new(Mutex::new(Content::default()));
                state.files.insert(path.to_owned(), content.clone());
                content
            }
        };
        Ok(Arc::new(ImageFile::new(path, content, how.block)))
    }
    fn create_dir(&self, path: &Path) -> Result<()> {
        let mut state = lock(&self.state);
        if state.dirs.iter().any(|dir| dir == path) {
            return error(Op::CreateDir, path, ErrorKind::AlreadyExists);
        }
        state.dirs.push(path.to_owned());
        Ok(())
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let state = lock(&self.state);
        if !state.dirs.iter().any(|d| d == dir) {
            return error(Op::List, dir, ErrorKind::NotFound);
        }
        let all = state.files.keys().chain(&state.dirs).chain(state.locks.keys());
        let here = all.filter(|path| path.parent() == Some(dir)).filter_map(|path| path.file_name());
        let names: std::collections::BTreeSet<String> = here.map(|name| name.to_string_lossy().into_owned()).collect();
        Ok(names.into_iter().collect())
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        let state = lock(&self.state);
        Ok(state.files.contains_key(path) || state.dirs.iter().any(|dir| dir == path))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = lock(&self.state);
        match state.files.remove(from) {
            Some(content) => drop(state.files.insert(to.to_owned(), content)),
            None => return error(Op::Rename, from, ErrorKind::NotFound),
        }
        Ok(())
    }
    fn remove(&self, path: &Path) -> Result<()> {
        match lock(&self.state).files.remove(path) {
            Some(_) => Ok(()),
            None => error(Op::Remove, path, ErrorKind::NotFound),
        }
    }
    fn sync_dir(&self, _dir: &Path) -> Result<()> {
        Ok(())
    }
    fn lock(&self, path: &Path, mode: LockMode) -> Result<Box<dyn Lock>> {
        let mut state = lock(&self.state);
        let held = state.locks.get(path).filter(|(_, token)| Arc::strong_count(token) > 1).cloned();
        let token = match held {
            Some((LockMode::Shared, token)) if mode == LockMode::Shared => token,
            Some(_) => return Err(Error::Locked { path: path.to_owned(), pid: None }),
            None => Arc::new(()),
        };
        state.locks.insert(path.to_owned(), (mode, token.clone()));
        Ok(Box::new(ImageLock { _token: token }))
    }
    fn queue(&self, _kind: QueueKind, _depth: u32) -> Result<Arc<dyn Queue>> {
        Ok(Arc::new(queue::ImageQueue::default()))
    }
    fn capacity(&self, _path: &Path) -> Result<u64> {
        Ok(1 << 30)
    }
}

#[derive(Debug)]
struct ImageLock {
    _token: Arc<()>,
}

impl Lock for ImageLock {}
