//! The content of a disk, in memory: sparse, and cheap to copy, since copies share what neither has changed.

use std::fs::File;
use std::io::{Read, Result};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const CHUNK: usize = 64 << 10;

/// A disk's bytes.
#[derive(Clone)]
pub(super) struct Image {
    chunks: Vec<Option<Arc<Vec<u8>>>>,
}

impl Image {
    /// All zeros; `len` is rounded up to whole chunks.
    pub(super) fn new(len: u64) -> Image {
        Image { chunks: vec![None; len.div_ceil(CHUNK as u64) as usize] }
    }

    /// Bytes.
    pub(super) fn len(&self) -> u64 {
        (self.chunks.len() * CHUNK) as u64
    }

    /// Changes bytes. What lies beyond the end is left out.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (chunk, within, part) in pieces(offset, bytes.len()) {
            let Some(chunk) = self.chunks.get_mut(chunk) else { return };
            let chunk = chunk.get_or_insert_with(|| Arc::new(vec![0; CHUNK]));
            let len = part.len();
            Arc::make_mut(chunk)[within..within + len].copy_from_slice(&bytes[part]);
        }
    }

    /// The bytes there; shorter at the end.
    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        for (chunk, within, part) in pieces(offset, len) {
            match self.chunks.get(chunk) {
                None => break,
                Some(None) => bytes.resize(bytes.len() + part.len(), 0),
                Some(Some(chunk)) => bytes.extend_from_slice(&chunk[within..within + part.len()]),
            }
        }
        bytes
    }

    /// Reads a file.
    pub(super) fn load(file: &mut File) -> Result<Image> {
        let mut image = Image::new(file.metadata()?.len());
        for chunk in &mut image.chunks {
            let mut bytes = vec![0; CHUNK];
            let mut filled = 0;
            while filled < CHUNK {
                match file.read(&mut bytes[filled..])? {
                    0 => break,
                    n => filled += n,
                }
            }
            if bytes.iter().any(|b| *b != 0) {
                *chunk = Some(Arc::new(bytes));
            }
        }
        Ok(image)
    }

    /// Makes the file exactly this, with holes where nothing is.
    pub(super) fn store(&self, file: &File) -> Result<()> {
        file.set_len(0)?;
        file.set_len(self.len())?;
        let there = self.chunks.iter().enumerate().filter_map(|(n, chunk)| Some((n, chunk.as_ref()?)));
        for (n, bytes) in there {
            file.write_all_at(bytes, (n * CHUNK) as u64)?;
        }
        Ok(())
    }
}

/// The pieces of a range: chunk, where in it, and which part of the range.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset as usize + done;
        let (chunk, within) = (at / CHUNK, at % CHUNK);
        let part = done..len.min(done + CHUNK - within);
        (done < len).then(|| {
            done = part.end;
            (chunk, within, part)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_copies_stay() {
        let mut image = Image::new(200_000);
        assert_eq!(image.len(), 4 * 65536);
        let bytes: Vec<u8> = (0..150_000).map(|i| i as u8 | 1).collect();
        image.write(1000, &bytes);
        let before = image.clone();
        image.write(66_000, &[0; 10]);
        assert_eq!(before.read(1000, bytes.len()), bytes);
        assert_eq!(image.read(65_999, 12), [before.read(65_999, 1), vec![0; 10], before.read(66_010, 1)].concat());
        assert_eq!(image.read(0, 1000), vec![0; 1000]);
        assert_eq!(image.read(image.len() - 5, 10).len(), 5);
        image.write(image.len() - 2, &[9; 4]);
        assert_eq!(image.read(image.len() - 2, 2), [9, 9]);
    }

    #[test]
    fn files_hold_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let mut image = Image::new(1 << 20);
        image.write(70_000, b"something");
        std::fs::write(&path, vec![7; 2 << 20]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        image.store(&file).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), image.read(0, 1 << 20));
        let again = Image::load(&mut File::open(&path).unwrap()).unwrap();
        assert_eq!(again.read(0, 1 << 20), image.read(0, 1 << 20));
        assert_eq!(again.chunks.iter().flatten().count(), 1);
    }
}
