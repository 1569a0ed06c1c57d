//! A file of shared blocks.

use super::{BLOCK, Block, lock};
use ashlar_disk::fs::check_transfer;
use ashlar_disk::words::{self, Words};
use ashlar_disk::{Alignment, BlockSize, Durability, Error, File, Op, Result, SyncKind};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

static ZEROS: LazyLock<Block> = LazyLock::new(|| Arc::new([0; BLOCK]));

/// What a file holds.
#[derive(Default)]
pub(super) struct Content {
    pub(super) blocks: Vec<Block>,
    pub(super) unreadable: BTreeSet<u64>,
    pub(super) history: Option<Vec<(u64, Block)>>,
}

impl Content {
    pub(super) fn of(blocks: Vec<Block>) -> Content {
        Content { blocks, ..Content::default() }
    }

    fn grow_to(&mut self, blocks: u64) {
        if self.blocks.len() < blocks as usize {
            self.blocks.resize(blocks as usize, ZEROS.clone());
        }
    }
}

/// An open file.
pub(super) struct ImageFile {
    path: PathBuf,
    content: Arc<Mutex<Content>>,
    block: BlockSize,
}

impl ImageFile {
    pub(super) fn new(path: &Path, content: Arc<Mutex<Content>>, block: BlockSize) -> ImageFile {
        ImageFile { path: path.to_owned(), content, block }
    }
}

impl std::fmt::Debug for ImageFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageFile({})", self.path.display())
    }
}

impl File for ImageFile {
    fn path(&self) -> &Path {
        &self.path
    }
    fn len(&self) -> Result<u64> {
        Ok((lock(&self.content).blocks.len() * BLOCK) as u64)
    }
    fn read(&self, offset: u64, into: &[&Words]) -> Result<()> {
        let wanted = check_transfer(&self.path, self.block, offset, into)?;
        let content = lock(&self.content);
        let first = offset / BLOCK as u64;
        for (block, part) in (first..).zip(into.iter().flat_map(|words| words.chunks_exact(BLOCK / 8))) {
            let Some(bytes) = content.blocks.get(block as usize) else {
                let end = (content.blocks.len() * BLOCK) as u64;
                return Err(Error::Short { path: self.path.clone(), offset, wanted, end });
            };
            if content.unreadable.contains(&block) {
                let eio = std::io::Error::from_raw_os_error(libc::EIO);
                return Err(Error::from_io(Op::Read, &self.path, Some(block * BLOCK as u64), &eio));
            }
            words::copy_in(part, 0, &bytes[..]);
        }
        Ok(())
    }
    fn write(&self, offset: u64, from: &[&Words], _durability: Durability) -> Result<()> {
        let len = check_transfer(&self.path, self.block, offset, from)?;
        let mut content = lock(&self.content);
        let first = offset / BLOCK as u64;
        content.grow_to(first + len / BLOCK as u64);
        for (block, part) in (first..).zip(from.iter().flat_map(|words| words.chunks_exact(BLOCK / 8))) {
            let mut bytes = Arc::new([0; BLOCK]);
            words::copy_out(part, 0, &mut Arc::make_mut(&mut bytes)[..]);
            let old = std::mem::replace(&mut content.blocks[block as usize], bytes);
            // A sector that is written anew can be read again.
            content.unreadable.remove(&block);
            if let Some(history) = &mut content.history {
                history.push((block, old));
            }
        }
        Ok(())
    }
    fn sync(&self, _kind: SyncKind) -> Result<()> {
        Ok(())
    }
    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        lock(&self.content).grow_to((offset + len).div_ceil(BLOCK as u64));
        Ok(())
    }
    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        let mut content = lock(&self.content);
        let end = content.blocks.len().min(((offset + len) / BLOCK as u64) as usize);
        let start = end.min((offset as usize).div_ceil(BLOCK));
        content.blocks[start..end].fill(ZEROS.clone());
        Ok(())
    }
    fn set_len(&self, len: u64) -> Result<()> {
        let mut content = lock(&self.content);
        content.grow_to(len / BLOCK as u64);
        content.blocks.truncate(len as usize / BLOCK);
        Ok(())
    }
    fn alignment(&self) -> Alignment {
        Alignment { memory: BLOCK, offset: BLOCK }
    }
    fn resident_pages(&self) -> Result<Option<u64>> {
        Ok(None)
    }
    fn drop_cache(&self) -> Result<()> {
        Ok(())
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
