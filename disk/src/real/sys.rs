//! Calls of the kernel that `std` lacks, each as a safe function that says no more than the kernel does.
//!
//! 1. `EINTR` is tried again here and seen by nobody.
//! 2. Memory is handed to the kernel only as [`Pieces`], which borrow it.
//!
//! Not here: what an errno means (`error`, `file`), and what to do about a short transfer (`moving`).

use crate::words::Words;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;

/// The most pieces of memory that the kernel takes in one call (`IOV_MAX`).
const PIECES_MAX: usize = 1024;

/// The most bytes that the kernel moves in one call (`MAX_RW_COUNT` with the largest pages).
const BYTES_PER_CALL_MAX: usize = 0x7fff_0000;

/// Memory of one call, in order.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    iovecs: Vec<libc::iovec>,
    borrowed: PhantomData<&'a Words>,
}

impl<'a> Pieces<'a> {
    /// As much of `buffers` from byte `skip` on as one call may take: a multiple of 4096 bytes, if the buffers are.
    pub(super) fn of(buffers: impl Iterator<Item = &'a Words>, skip: u64) -> Pieces<'a> {
        let mut iovecs = Vec::with_capacity(buffers.size_hint().0.min(PIECES_MAX));
        fill(&mut iovecs, buffers, skip);
        Pieces { iovecs, borrowed: PhantomData }
    }
}

/// Replaces `iovecs` by as much of `buffers` from byte `skip` on as one call may take.
pub(super) fn fill<'a>(iovecs: &mut Vec<libc::iovec>, buffers: impl Iterator<Item = &'a Words>, skip: u64) {
    iovecs.clear();
    let mut skip = skip;
    let mut room = BYTES_PER_CALL_MAX;
    for words in buffers {
        let bytes = size_of_val(words);
        if skip >= bytes as u64 {
            skip -= bytes as u64;
            continue;
        }
        if iovecs.len() == PIECES_MAX || room == 0 {
            break;
        }
        let from = skip as usize;
        skip = 0;
        let len = (bytes - from).min(room);
        room -= len;
        // `wrapping_add` stays inside the buffer: `from` is less than its length.
        let base = words.as_ptr().cast::<u8>().wrapping_add(from).cast_mut();
        iovecs.push(libc::iovec { iov_base: base.cast(), iov_len: len });
    }
}

/// Calls until the answer isn't `EINTR`; a negative answer is `errno`.
fn retry(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        let answer = call();
        if let Ok(answer) = usize::try_from(answer) {
            return Ok(answer);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// `preadv`: how many bytes came, 0 at the file's end.
pub(super) fn read_at(file: &File, offset: u64, into: &Pieces<'_>) -> io::Result<usize> {
    let (fd, offset) = (file.as_raw_fd(), offset as libc::off_t);
    // SAFETY: the pieces are borrowed, writable memory of atomic words: the kernel's stores are as those of another thread.
    retry(|| unsafe { libc::preadv(fd, into.iovecs.as_ptr(), into.iovecs.len() as libc::c_int, offset) })
}

/// `pwritev`, or `pwritev2` with `RWF_DSYNC`: how many bytes went.
pub(super) fn write_at(file: &File, offset: u64, from: &Pieces<'_>, dsync: bool) -> io::Result<usize> {
    let (fd, offset, count) = (file.as_raw_fd(), offset as libc::off_t, from.iovecs.len() as libc::c_int);
    let flags = if dsync { libc::RWF_DSYNC } else { 0 };
    // SAFETY: the pieces are borrowed, readable memory.
    retry(|| unsafe { libc::pwritev2(fd, from.iovecs.as_ptr(), count, offset, flags) })
}

/// `fallocate`: room for `len` bytes at `offset`; the file grows where it is shorter.
pub(super) fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    fallocate(file, 0, offset, len)
}

/// `fallocate` of a hole: the bytes are given back and read zero, the length stays.
pub(super) fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, len)
}

fn fallocate(file: &File, mode: libc::c_int, offset: u64, len: u64) -> io::Result<()> {
    let fd = file.as_raw_fd();
    // SAFETY: takes numbers only.
    retry(|| unsafe { libc::fallocate(fd, mode, offset as libc::off_t, len as libc::off_t) } as libc::ssize_t).map(drop)
}

/// `posix_fadvise(DONTNEED)` for the whole file.
pub(super) fn drop_clean_pages(file: &File) -> io::Result<()> {
    // SAFETY: takes numbers only.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The magic number of overlayfs.
const OVERLAYFS: u64 = 0x794c_7630;

/// How many pages of the file the page cache holds, or `None` where this kernel (before 6.5), file system or sandbox doesn't
/// tell. overlayfs always tells 0: it counts those of its own file, and what is cached is the file below (seen with 6.18).
pub(super) fn cached_pages(file: &File) -> io::Result<Option<u64>> {
    if filesystem_magic(file)? == OVERLAYFS {
        return Ok(None);
    }
    /// The same number on every architecture.
    const SYS_CACHESTAT: libc::c_long = 451;
    // From byte 0 to the file's end.
    let range = [0u64; 2];
    // Cached, dirty, under write-back, evicted, evicted recently.
    let mut counts = [0u64; 5];
    let flags: libc::c_uint = 0;
    // SAFETY: both pointers are to memory of the size that the call's ABI says, alive for the call.
    let answer = retry(|| unsafe {
        libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), range.as_ptr(), counts.as_mut_ptr(), flags) as libc::ssize_t
    });
    match answer {
        Ok(_) => Ok(Some(counts[0])),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EOPNOTSUPP)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What `statx` knows beyond `stat`: which of the fields are filled is for the reader to ask of `stx_mask`.
pub(super) fn statx_of(file: &File, wanted: libc::c_uint) -> io::Result<libc::statx> {
    let mut answer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the name is an empty C string, as AT_EMPTY_PATH asks for, and the answer is memory of the right size.
    retry(|| unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, wanted, answer.as_mut_ptr()) as libc::ssize_t
    })?;
    // SAFETY: plain numbers, which zeros are, and which the kernel has overwritten.
    Ok(unsafe { answer.assume_init() })
}

/// The type of the file system that holds an open file or directory (`f_type` of `fstatfs`).
pub(super) fn filesystem_magic(file: &File) -> io::Result<u64> {
    let answer = nix::sys::statfs::fstatfs(file)?;
    // The field's type differs between architectures; every magic number is 32 bits.
    Ok(u64::from(answer.filesystem_type().0 as u32))
}

/// The logical sector of a block device in bytes (`BLKSSZGET`).
pub(super) fn sector_size(device: &File) -> io::Result<usize> {
    let mut size: libc::c_int = 0;
    // SAFETY: the call stores one int.
    retry(|| unsafe { libc::ioctl(device.as_raw_fd(), BLKSSZGET as _, &raw mut size) } as libc::ssize_t)?;
    Ok(size.max(0) as usize)
}

/// The size of a block device in bytes (`BLKGETSIZE64`).
pub(super) fn device_size(device: &File) -> io::Result<u64> {
    let mut size = 0u64;
    // SAFETY: the call stores one 64-bit number.
    retry(|| unsafe { libc::ioctl(device.as_raw_fd(), BLKGETSIZE64 as _, &raw mut size) } as libc::ssize_t)?;
    Ok(size)
}

/// The flags that `lsattr` shows (`FS_IOC_GETFLAGS`), or `None` where the file system has none.
pub(super) fn attributes(file: &File) -> Option<u32> {
    // The kernel stores an int, although the number of the call says long.
    let mut flags: libc::c_long = 0;
    // SAFETY: the call stores an int into memory that is at least as large.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS as _, &raw mut flags) };
    (answer == 0).then_some(flags as u32)
}

/// How many bytes this process may lock into memory, or `None` where there is no limit for it. A process with
/// `CAP_IPC_LOCK` has none, whatever this says.
pub(super) fn locked_memory_max() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call stores two numbers.
    let answer = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (answer == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

const BLKSSZGET: u32 = 0x1268;
const BLKGETSIZE64: u32 = 0x8008_1272;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AlignedBuf;

    fn lens(pieces: &Pieces<'_>) -> Vec<usize> {
        pieces.iovecs.iter().map(|v| v.iov_len).collect()
    }

    #[test]
    fn pieces_begin_where_they_are_told() {
        let bufs: Vec<AlignedBuf> = [4096, 8192, 4096].into_iter().map(AlignedBuf::zeroed).collect();
        let of = |skip| Pieces::of(bufs.iter().map(|b| b.words()), skip);
        assert_eq!(lens(&of(0)), [4096, 8192, 4096]);
        assert_eq!(lens(&of(4096)), [8192, 4096]);
        assert_eq!(lens(&of(8192)), [4096, 4096]);
        assert_eq!(of(8192).iovecs[0].iov_base as usize, bufs[1].as_ptr() as usize + 4096);
        assert_eq!(lens(&of(16384)), [0; 0]);
    }

    #[test]
    fn pieces_of_one_call_are_bounded() {
        let buf = AlignedBuf::zeroed(4096);
        let pieces = Pieces::of(std::iter::repeat_n(buf.words(), 3000), 4096 * 1000);
        assert_eq!(pieces.iovecs.len(), PIECES_MAX);
        let pieces = Pieces::of(std::iter::repeat_n(buf.words(), 3000), 4096 * 2990);
        assert_eq!(pieces.iovecs.len(), 10);
    }
}
