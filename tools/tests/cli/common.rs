//! Running the command.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory for one test, removed behind it. Not on tmpfs, unless `ASHLAR_TEST_DIR` says so.
pub(crate) struct Dir(tempfile::TempDir);

impl Dir {
    pub(crate) fn new() -> Dir {
        let base = std::env::var_os("ASHLAR_TEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
        std::fs::create_dir_all(&base).unwrap();
        Dir(tempfile::tempdir_in(base).unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The command, run in it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar"));
        command.current_dir(self.path()).env_remove("ASHLAR_LOG").stdin(Stdio::null());
        command
    }

    /// Runs `ashlar` with these words as arguments.
    pub(crate) fn run(&self, words: &str) -> Ran {
        Ran::of(words, self.command().args(words.split_whitespace()).output().unwrap())
    }

    /// Likewise, with `input` through a pipe on its stdin.
    pub(crate) fn pipe(&self, words: &str, input: impl AsRef<[u8]>) -> Ran {
        let mut command = self.command();
        command.args(words.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        // A command that has seen enough closes its end: no matter.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        Ran::of(words, output)
    }
}

/// What a run has given.
pub(crate) struct Ran {
    words: String,
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(words: &str, output: Output) -> Ran {
        let status = output.status.code().unwrap_or(-1);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked"), "ashlar {words}: {stderr}");
        Ran { words: words.to_owned(), status, stdout: output.stdout, stderr }
    }

    /// It was done, without a word on stderr: its stdout.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!((self.status, &*self.stderr), (0, ""), "ashlar {}", self.words);
        String::from_utf8(self.stdout).unwrap()
    }

    /// The answer was no: its stdout.
    #[track_caller]
    pub(crate) fn no(self) -> String {
        assert_eq!(self.status, 1, "ashlar {}: {}", self.words, self.stderr);
        String::from_utf8(self.stdout).unwrap()
    }

    /// It could not run, and said why in a line: that line.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.status, 2, "ashlar {}: {}", self.words, self.stderr);
        assert_eq!(self.stdout, b"", "ashlar {}", self.words);
        let line = self.stderr.trim_end();
        assert!(line.starts_with("ashlar: ") && !line.contains('\n'), "ashlar {}: {line}", self.words);
        line["ashlar: ".len()..].to_owned()
    }

    /// Clap did not like the arguments.
    #[track_caller]
    pub(crate) fn misused(self) -> String {
        assert_eq!((self.status, &*self.stdout), (2, &b""[..]), "ashlar {}", self.words);
        self.stderr
    }

    /// It was done: the objects on its stdout.
    #[track_caller]
    pub(crate) fn objects(self) -> Vec<serde_json::Value> {
        objects(&self.done())
    }
}

/// One object a line.
pub(crate) fn objects(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
