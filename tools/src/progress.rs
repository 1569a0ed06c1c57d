//! Bars and spinners for what takes over a second, on a terminal.

use crate::error::Result;
use crate::output::Output;
use ashlar_disk::sync::{Condvar, JoinHandle, Mutex, now, spawn};
use indicatif::{ProgressBar, ProgressStyle};
use std::borrow::Cow;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

/// What is done before is not worth a bar.
const QUIET: Duration = Duration::from_secs(1);

fn is_wanted(out: &Output) -> bool {
    !out.is_json() && std::io::stderr().is_terminal()
}

/// Progress through something that counts.
pub(crate) struct Progress {
    wanted: bool,
    label: Cow<'static, str>,
    total: Option<u64>,
    done: u64,
    started: Duration,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of `total` steps, where that is known.
    pub(crate) fn new(out: &Output, label: impl Into<Cow<'static, str>>, total: Option<u64>) -> Progress {
        Progress { wanted: is_wanted(out), label: label.into(), total, done: 0, started: now(), bar: None }
    }

    /// Some steps more. Cheap: the clock is read every now and then.
    pub(crate) fn add(&mut self, steps: u64) {
        let before = self.done;
        self.done += steps;
        if before >> 8 != self.done >> 8 {
            self.show();
        }
    }

    /// Some long steps more, and what they have come to so far.
    pub(crate) fn step(&mut self, steps: u64, text: impl FnOnce() -> String) {
        self.now_at(self.done + steps, text);
    }

    /// So many steps are done, and this is what they have come to.
    pub(crate) fn now_at(&mut self, done: u64, text: impl FnOnce() -> String) {
        self.done = done;
        self.show();
        if let Some(bar) = &self.bar {
            bar.set_message(text());
        }
    }

    /// As far as a walk says.
    pub(crate) fn reach(&mut self, walk: ashlardb::verify::Progress) {
        self.at(walk.done, walk.total);
    }

    /// At this of so many steps.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        self.total = Some(total);
        self.done = done;
        self.show();
    }

    fn show(&mut self) {
        if !self.wanted {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if now() - self.started > QUIET => self.bar = Some(self.begin()),
            None => {}
        }
    }

    fn begin(&self) -> ProgressBar {
        let (bar, template) = match self.total {
            Some(total) => (ProgressBar::new(total), "{msg} {wide_bar} {human_pos}/{human_len}, {eta} left"),
            None => (ProgressBar::no_length(), "{msg} {spinner} {human_pos}, {elapsed}"),
        };
        let bar = bar.with_style(style(template)).with_message(self.label.clone()).with_elapsed(now() - self.started);
        bar.set_position(self.done);
        bar
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Shown while something runs that can't say how far it is.
pub(crate) struct Spinner {
    shared: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle>,
}

impl Spinner {
    /// From a second on.
    pub(crate) fn start(out: &Output, label: String) -> Result<Spinner> {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = shared.clone();
        let thread = if is_wanted(out) { Some(spawn("spinner", move || spin(&theirs, label))?) } else { None };
        Ok(Spinner { shared, thread })
    }
}

fn spin((over, ended): &(Mutex<bool>, Condvar), label: String) {
    let begin = now() + QUIET;
    let mut over = over.lock();
    let mut bar = None;
    while !*over {
        if now() >= begin {
            let bar = bar.get_or_insert_with(|| {
                ProgressBar::new_spinner().with_style(style("{spinner} {msg} {elapsed}")).with_message(label.clone())
            });
            bar.tick();
        }
        ended.wait_for(&mut over, Duration::from_millis(100));
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        *self.shared.0.lock() = true;
        self.shared.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
