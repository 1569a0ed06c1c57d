//! What a run knows: its threads, its clock, and the choice of what happens next.
//!
//! 1. At most one thread is `Running`; it is the one that asks for the next choice.
//! 2. Every choice is drawn from the seed and enters the trace; nothing else decides (no address, no real time).
//! 3. The clock moves only when no thread is ready.

use super::panics::RunIsOver;
use super::rng::Rng;
use super::worker::{Job, Worker};
use super::{Device, Failure, Options, Wait};
use crate::sync::Panicked;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// Where a thread stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Status {
    Ready,
    Running,
    Waiting { on: Wait, until: Option<Duration> },
    Ended,
}

/// One simulated thread.
pub(super) struct Thread {
    pub(super) name: String,
    pub(super) status: Status,
    /// Where in the program it last came to a scheduling point.
    pub(super) place: Option<&'static Location<'static>>,
    /// Whether it was the clock that ended its last wait.
    pub(super) timed_out: bool,
    pub(super) panic: Option<Panicked>,
    pub(super) worker: Arc<Worker>,
    /// What it is to run, until it has started.
    pub(super) start: Option<Job>,
}

/// What happens next.
pub(super) enum Choice {
    Thread(usize),
    /// The transfer of that number, counted over all devices.
    Transfer(usize),
    Clock(Duration),
    /// Nothing can.
    Nothing,
}

pub(super) struct State {
    pub(super) seed: u64,
    pub(super) threads: Vec<Thread>,
    /// The threads that have not ended, by index.
    pub(super) alive: Vec<usize>,
    pub(super) devices: Vec<Arc<dyn Device>>,
    /// Which thread holds which mutex, for reports.
    pub(super) held: Vec<(usize, usize)>,
    pub(super) clock: Duration,
    pub(super) steps: u64,
    steps_max: u64,
    /// A hash over all choices.
    pub(super) trace: u64,
    pub(super) failure: Option<Failure>,
    /// Names of the threads that were still alive when the first one ended.
    pub(super) left: Vec<String>,
    choices: Rng,
    pub(super) values: Rng,
    /// How readily the running thread keeps running, of 256.
    keep: u32,
    /// How readily a transfer completes although a thread could run, of 256.
    eager_device: u32,
}

impl State {
    pub(super) fn new(options: &Options) -> State {
        let mut choices = Rng::new(options.seed, 1);
        // Some bugs need many switches, some need a thread to run far ahead; likewise for transfers. So runs differ in both.
        let keep = choices.pick(&[0, 128, 224]);
        let eager_device = choices.pick(&[8, 64, 160]);
        State {
            seed: options.seed,
            threads: Vec::new(),
            alive: Vec::new(),
            devices: Vec::new(),
            held: Vec::new(),
            clock: Duration::ZERO,
            steps: 0,
            steps_max: options.steps_max,
            trace: 0,
            failure: None,
            left: Vec::new(),
            choices,
            values: Rng::new(options.seed, 2),
            keep,
            eager_device,
        }
    }

    /// Whether the run has gone on for longer than it may.
    pub(super) fn is_too_long(&self) -> bool {
        self.steps > self.steps_max
    }

    /// Gives a run that is being unwound as many steps again.
    pub(super) fn extend(&mut self) {
        self.steps_max = self.steps_max.saturating_add(self.steps);
    }

    /// What happens next, given the thread that asks (if it has not ended) and how many transfers are in flight.
    pub(super) fn choose(&mut self, asking: Option<usize>, in_flight: usize) -> Choice {
        self.steps += 1;
        let ready = self.alive.iter().filter(|&&i| self.threads[i].status == Status::Ready).count();
        let choice = self.draw(asking, ready, in_flight);
        let mark = match choice {
            Choice::Thread(i) => i as u64,
            Choice::Transfer(n) => 1 << 32 | n as u64,
            Choice::Clock(t) => 2 << 32 ^ t.as_nanos() as u64,
            Choice::Nothing => 3 << 32,
        };
        self.trace = (self.trace.rotate_left(5) ^ mark).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        choice
    }

    fn draw(&mut self, asking: Option<usize>, ready: usize, in_flight: usize) -> Choice {
        let timer = if ready == 0 { self.next_timer() } else { None };
        let device_chance = match (ready, timer) {
            (0, None) => 256,
            (0, Some(_)) => 224,
            _ => self.eager_device,
        };
        if in_flight > 0 && self.choices.chance(device_chance) {
            return Choice::Transfer(self.choices.below(in_flight));
        }
        if ready > 0 {
            return Choice::Thread(self.draw_thread(asking, ready));
        }
        timer.map_or(Choice::Nothing, Choice::Clock)
    }

    fn draw_thread(&mut self, asking: Option<usize>, ready: usize) -> usize {
        if let Some(asking) = asking
            && self.threads[asking].status == Status::Ready
            && (ready == 1 || self.choices.chance(self.keep))
        {
            return asking;
        }
        let nth = self.choices.below(ready);
        let mut candidates = self.alive.iter().filter(|&&i| self.threads[i].status == Status::Ready);
        *candidates.nth(nth).expect("`nth` is below the number of ready threads")
    }

    fn next_timer(&self) -> Option<Duration> {
        let untils = self.alive.iter().filter_map(|&i| match self.threads[i].status {
            Status::Waiting { until, .. } => until,
            _ => None,
        });
        untils.min()
    }

    /// Moves the clock and wakes those whose time has come.
    pub(super) fn advance_clock(&mut self, to: Duration) {
        self.clock = to;
        for &i in &self.alive {
            let thread = &mut self.threads[i];
            if matches!(thread.status, Status::Waiting { until: Some(until), .. } if until <= to) {
                thread.status = Status::Ready;
                thread.timed_out = true;
            }
        }
    }

    /// Wakes every thread that waits on `on`.
    pub(super) fn wake_all(&mut self, on: Wait) {
        for &i in &self.alive {
            let thread = &mut self.threads[i];
            if matches!(thread.status, Status::Waiting { on: w, .. } if w == on) {
                thread.status = Status::Ready;
            }
        }
    }

    /// Wakes one of the threads that wait on `on`: any of them.
    pub(super) fn wake_one(&mut self, on: Wait) {
        let waits = |t: &Thread| matches!(t.status, Status::Waiting { on: w, .. } if w == on);
        let count = self.alive.iter().filter(|&&i| waits(&self.threads[i])).count();
        if count == 0 {
            return;
        }
        let nth = if count == 1 { 0 } else { self.choices.below(count) };
        let found = self.alive.iter().copied().filter(|&i| waits(&self.threads[i])).nth(nth);
        self.threads[found.expect("counted above")].status = Status::Ready;
    }

    /// Makes every waiting thread ready, so that it can be unwound.
    pub(super) fn wake_everybody(&mut self) {
        for &i in &self.alive {
            let thread = &mut self.threads[i];
            if matches!(thread.status, Status::Waiting { .. }) {
                thread.status = Status::Ready;
            }
        }
    }

    /// A thread has ended.
    pub(super) fn end(&mut self, index: usize, panic: Option<Panicked>) {
        if let Some(panic) = &panic {
            self.failure.get_or_insert_with(|| Failure::Panicked(panic.clone()));
        }
        self.threads[index].status = Status::Ended;
        self.threads[index].panic = panic;
        self.alive.retain(|&i| i != index);
        self.held.retain(|&(_, by)| by != index);
        self.wake_all(Wait::Join(index));
    }

    /// Now and then true: a wait that is allowed to end for no reason does.
    pub(super) fn ends_for_no_reason(&mut self) -> bool {
        self.choices.chance(6)
    }

    /// Which thread stands where, a line each.
    pub(super) fn report(&self) -> String {
        let mut text = format!("seed {}, after {} steps, at {:?}:", self.seed, self.steps, self.clock);
        for &i in &self.alive {
            let thread = &self.threads[i];
            let place = thread.place.map(|p| format!(", at {p}")).unwrap_or_default();
            text += &format!("\n  thread {i} \"{}\" {}{place}", thread.name, self.describe(thread.status));
        }
        text
    }

    fn describe(&self, status: Status) -> String {
        let (on, until) = match status {
            Status::Ready | Status::Running => return "can run".into(),
            Status::Ended => return "has ended".into(),
            Status::Waiting { on, until } => (on, until),
        };
        let what = match on {
            Wait::Mutex(key) => {
                let holder = self.held.iter().find(|&&(k, _)| k == key);
                let holder = holder.map(|&(_, i)| format!(" held by thread {i} \"{}\"", self.threads[i].name));
                format!("a mutex{}", holder.unwrap_or_default())
            }
            Wait::Condvar(_) => "a condition variable".into(),
            Wait::Park(_) => "being unparked".into(),
            Wait::Join(i) => format!("the end of thread {i} \"{}\"", self.threads[i].name),
            Wait::Sleep => "its time".into(),
            Wait::Io(_) => "a transfer".into(),
        };
        format!("waits for {what}{}", until.map(|t| format!(" until {t:?}")).unwrap_or_default())
    }
}

/// Unwinds the calling thread, whose run is over.
pub(super) fn unwind() -> ! {
    // No hook runs, nothing is printed.
    std::panic::resume_unwind(Box::new(RunIsOver))
}
