//! What the tests of the real file system share: directories on a disk, mounts, buffers with known contents.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests")]

use ashlar_disk::real::{RealFs, RealOptions};
use ashlar_disk::{Access, AlignedBuf, BlockSize, Create, File, Fs, IoMode, OpenHow, QueueKind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Both ways to have transfers in flight.
pub(crate) const KINDS: [QueueKind; 2] = [QueueKind::Uring, QueueKind::Threads];

/// A directory on a disk, removed at the end: in `ASHLAR_TEST_DIR`, or beside the test program.
pub(crate) fn test_dir() -> tempfile::TempDir {
    let base = std::env::var_os("ASHLAR_TEST_DIR").map(PathBuf::from);
    let base = base.unwrap_or_else(|| std::env::current_exe().unwrap().parent().unwrap().to_owned());
    tempfile::Builder::new().prefix("ashlar-test-").tempdir_in(base).unwrap()
}

pub(crate) fn real_fs() -> Arc<RealFs> {
    RealFs::new(RealOptions::default()).unwrap()
}

pub(crate) fn how(create: Create) -> OpenHow {
    OpenHow { access: Access::ReadWrite, create, mode: IoMode::Direct, block: BlockSize::MIN }
}

pub(crate) fn new_file(fs: &RealFs, path: &Path) -> Arc<dyn File> {
    fs.open(path, &how(Create::New)).unwrap()
}

/// Bytes that tell from which seed and position they are.
pub(crate) fn pattern(seed: u64, len: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(len);
    for (i, chunk) in buf.chunks_exact_mut(8).enumerate() {
        let word = (seed << 32 ^ i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    buf
}

/// A file system of its own, unmounted at the end.
pub(crate) struct Mount {
    dir: tempfile::TempDir,
    device: Option<String>,
}

impl Mount {
    /// Makes one of `mib` MiB, on a loop device with sectors of `sector` bytes unless it is tmpfs. `None`, with the reason
    /// printed, where that can't be done here.
    pub(crate) fn new(filesystem: &str, mib: u32, sector: u32) -> Option<Mount> {
        Mount::with_options(filesystem, mib, sector, "defaults")
    }

    /// As `new`, mounted with options.
    pub(crate) fn with_options(filesystem: &str, mib: u32, sector: u32, options: &str) -> Option<Mount> {
        match Mount::try_new(filesystem, mib, sector, options) {
            Ok(mount) => Some(mount),
            Err(why) => {
                println!("skipped: no {filesystem} of {mib} MiB can be mounted here: {why}");
                None
            }
        }
    }

    fn try_new(filesystem: &str, mib: u32, sector: u32, options: &str) -> Result<Mount, String> {
        // SAFETY: takes and gives a number.
        if unsafe { libc::geteuid() } != 0 {
            return Err("not root".into());
        }
        let mut mount = Mount { dir: test_dir(), device: None };
        let at = mount.path().to_str().unwrap().to_owned();
        if filesystem == "tmpfs" {
            run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "none", &at])?;
            return Ok(mount);
        }
        let image = mount.dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(u64::from(mib) << 20).unwrap();
        let device = run("losetup", &["-f", "--show", "-b", &sector.to_string(), image.to_str().unwrap()])?;
        mount.device = Some(device.clone());
        let quiet = if filesystem == "ext4" { "-q" } else { "-f" };
        run(&format!("mkfs.{filesystem}"), &[quiet, &device])?;
        run("mount", &["-o", options, &device, &at])?;
        Ok(mount)
    }

    /// The loop device; empty for tmpfs.
    pub(crate) fn device(&self) -> &str {
        self.device.as_deref().unwrap_or_default()
    }

    pub(crate) fn path(&self) -> PathBuf {
        let path = self.dir.path().join("mounted");
        let _ = std::fs::create_dir(&path);
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run("umount", &[self.path().to_str().unwrap()]);
        if let Some(device) = &self.device {
            let _ = run("losetup", &["-d", device]);
        }
    }
}

/// Runs a program; its output, or why it failed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(format!("{program}: {}", text(output.stderr))) }
}
