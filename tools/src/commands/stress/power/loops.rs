//! Loop devices that go away by themselves: they are set up to be cleared when the last who has them open (a mount, or the guard here)
//! lets go, however that ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`, likewise.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo64>() == 232 && size_of::<LoopConfig>() == 304, "as the kernel has them");

nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, LoopConfig);

/// A loop device.
pub(super) struct Loop {
    path: PathBuf,
    _open: File,
}

impl Loop {
    /// On a file, with sectors of `sector` bytes; `direct`: without the page cache between them.
    pub(super) fn attach(file: &Path, sector: u32, direct: bool) -> io::Result<Loop> {
        let backing = OpenOptions::new().read(true).write(true).open(file)?;
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..64 {
            // SAFETY: a request without an argument, on a descriptor that is open.
            let number = unsafe { loop_ctl_get_free(control.as_raw_fd()) }?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = OpenOptions::new().read(true).write(true).open(&path)?;
            match configure(&device, &backing, sector, direct) {
                Ok(()) => return Ok(Loop { path, _open: device }),
                // Somebody else was quicker.
                Err(nix::Error::EBUSY) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(io::Error::other("no loop device is free"))
    }

    /// The device's name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn configure(device: &File, backing: &File, sector: u32, direct: bool) -> nix::Result<()> {
    let info = LoopInfo64 {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        sizelimit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_AUTOCLEAR | if direct { LO_FLAGS_DIRECT_IO } else { 0 },
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let config = LoopConfig { fd: backing.as_raw_fd() as u32, block_size: sector, info, reserved: [0; 8] };
    // SAFETY: the structure is whole, laid out as the kernel's, and lives through the call; both descriptors are open.
    unsafe { loop_configure(device.as_raw_fd(), &config) }.map(drop)
}
