//! Other processes: a test program runs itself again to play a part, or forks.
//!
//! The part is played by the test `plays_a_part` of the same program, which does nothing unless it was started by [`start`].

use std::io::{BufRead, BufReader, Read};
use std::os::fd::FromRawFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PART: &str = "ASHLAR_TEST_PART";
const DIRECTORY: &str = "ASHLAR_TEST_PART_DIR";

/// What a line of a player begins with: the test harness prints lines of its own.
const MARK: &str = "player: ";

/// A process that plays a part; killed with the guard.
pub(crate) struct Player {
    pub(crate) child: Child,
    lines: BufReader<ChildStdout>,
    input: Option<ChildStdin>,
}

/// The part this process is to play, and the directory to play it in.
pub(crate) fn part() -> Option<(String, std::path::PathBuf)> {
    Some((std::env::var(PART).ok()?, std::env::var_os(DIRECTORY)?.into()))
}

/// The command that runs this program again in a part.
pub(crate) fn command(part: &str, dir: &Path) -> Command {
    command_under(None, part, dir)
}

/// Likewise, under another program that is given the command line.
pub(crate) fn command_under(tool: Option<(&str, &[&str])>, part: &str, dir: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match tool {
        Some((tool, args)) => {
            let mut command = Command::new(tool);
            command.args(args).arg(this);
            command
        }
        None => Command::new(this),
    };
    command.args(["--exact", "plays_a_part", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(PART, part).env(DIRECTORY, dir);
    command
}

/// Starts this program again in a part.
pub(crate) fn start(part: &str, dir: &Path) -> Player {
    let mut command = command(part, dir);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let input = child.stdin.take();
    Player { child, lines, input }
}

/// A player says something to who started it.
pub(crate) fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let mut out = std::io::stdout();
    // The harness has written "test plays_a_part ... " without an end of line.
    writeln!(out, "\n{MARK}{text}").unwrap();
    out.flush().unwrap();
}

/// A player waits until its input is closed.
pub(crate) fn wait_for_end_of_input() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

impl Player {
    /// The next line the player says; `None` at the end.
    pub(crate) fn hears(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(text) = line.trim_end().strip_prefix(MARK) {
                return Some(text.to_owned());
            }
        }
    }

    /// Kills the player: it gets no chance to do anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its input and waits for its end, which must be a good one.
    pub(crate) fn ends(mut self) {
        self.input = None;
        let mut rest = String::new();
        let _ = self.lines.read_to_string(&mut rest);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the player failed: {status}: {rest}");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child made by `fork`, which runs a closure and ends.
pub(crate) struct Forked {
    pid: libc::pid_t,
    says: std::fs::File,
}

/// Forks; the child runs `play` and ends without running anything else of this program's.
pub(crate) fn fork(play: impl FnOnce() -> Result<(), String>) -> Forked {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) }, 0);
    // SAFETY: the descriptors were just made and belong to nobody else.
    let (says, hears) = unsafe { (std::fs::File::from_raw_fd(ends[0]), std::fs::File::from_raw_fd(ends[1])) };
    // SAFETY: the child goes on with one thread, and ends by `_exit`. What it calls in between may take memory, which the C
    // library keeps working over a fork; it waits for no other thread.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(play)).unwrap_or_else(|_| Err("panicked".into()));
        if let Err(text) = &outcome {
            use std::io::Write;
            let _ = (&hears).write_all(text.as_bytes());
        }
        // SAFETY: ends the process, and nothing of the parent's is run.
        unsafe { libc::_exit(i32::from(outcome.is_err())) };
    }
    Forked { pid, says }
}

impl Forked {
    /// Waits for the child; an error is what it said, or that it did not end well within a minute.
    pub(crate) fn join(mut self) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let mut status = 0;
            // SAFETY: waits for a child of ours and stores its status.
            let done = unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) };
            if done == self.pid {
                // Not to the end: a child that another thread forked meanwhile may hold the other end open.
                let mut text = [0; 4096];
                let n = self.says.read(&mut text).unwrap_or(0);
                let text = String::from_utf8_lossy(&text[..n]);
                return if status == 0 { Ok(()) } else { Err(format!("child ended with status {status:#x}: {text}")) };
            }
            if Instant::now() > until {
                // SAFETY: ends a child of ours.
                unsafe { libc::kill(self.pid, libc::SIGKILL) };
                return Err("the child hangs".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Whether a program can be started.
pub(crate) fn there_is(program: &str) -> bool {
    let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status();
    found.is_ok()
}

/// Whether this process may do what root may.
pub(crate) fn is_root() -> bool {
    // SAFETY: takes nothing and always succeeds.
    unsafe { libc::geteuid() == 0 }
}
