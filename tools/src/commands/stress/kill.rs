//! `ashlar stress kill`: a process at work is killed at any moment; what it leaves is compared with what it has told.
//!
//! A round: a child works; it is killed at a random time, or soon after it has told that it is open, begins a checkpoint, or closes;
//! sometimes more children are killed while they recover what it has left. Then this process opens the database, checks everything,
//! and the next round goes on with it.

use super::check::{self, History};
use super::journal::{Event, RECORD};
use super::ops::Size;
use super::part::{self, Part};
use super::plan::{End, Lie, Plan};
use crate::error::{Error, Outcome, Result};
use crate::output::Output;
use crate::progress::Progress;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// The writers that there can be.
pub(super) const WRITERS: usize = 4;

const AFTER: &str = "Makes a database in DIR/ashlar-stress, and removes it if all is well.

Which commits there are and when the process is to be killed follows from the seed; where exactly it
is then, the machine decides. A failure keeps the database.

With --json: one object at the end.

Exit status 1: what a killed process has left is wrong.";

/// Kill a process that works on a database, again and again, and check what it leaves
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Where the database is made
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 100)]
    runs: u32,
    /// Decides all that is drawn
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// End after this time, if not all rounds are done before
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Test of the test: confirm as `Immediate` what is not; must be found
    #[arg(long, hide = true)]
    lie: bool,
}

/// What the rounds came to.
#[derive(Default)]
struct Sum {
    rounds: u64,
    kills: u64,
    opening: u64,
    recovering: u64,
    checkpointing: u64,
    closing: u64,
    closed: u64,
    commits: u64,
    lost: u64,
}

/// Runs it.
pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome> {
    let db = super::new_database(&args.dir)?;
    let begin = Instant::now();
    let mut rounds =
        Rounds { args, db, history: History::new(args.seed, Size::Large), next: vec![1; WRITERS], life: 0, sum: Sum::default() };
    let mut progress = Progress::new(out, "killing", Some(args.runs.into()));
    let mut wrong = None;
    while rounds.sum.rounds < args.runs.into() && args.seconds.is_none_or(|s| begin.elapsed() < Duration::from_secs(s)) {
        if let Err(what) = rounds.round()? {
            wrong = Some(what);
            break;
        }
        rounds.sum.rounds += 1;
        progress.step(1, String::new);
    }
    drop(progress);
    report(&rounds, begin.elapsed(), wrong.as_deref(), out)?;
    if wrong.is_some() {
        return Ok(Outcome::No);
    }
    std::fs::remove_dir_all(&rounds.db)
        .or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
        .map_err(|e| Error::file("removing", &rounds.db, e))?;
    Ok(Outcome::Done)
}

/// What is wrong with what a child has left, or found; outside of it, why this could not go on.
type Judged<T> = Result<std::result::Result<T, String>>;

struct Rounds<'a> {
    args: &'a Args,
    db: PathBuf,
    history: History,
    next: Vec<u32>,
    life: u32,
    sum: Sum,
}

/// When a child is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// So long after it was started.
    Started(Duration),
    /// So long after it has told this.
    Told(Mark, Duration),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    Opened,
    Checkpoint,
    Closing,
}

impl Moment {
    fn draw(rng: &mut ChaCha8Rng) -> Moment {
        let mut after = |most: u64| Duration::from_micros(rng.random_range(0..most * 1000));
        let (short, middle, long) = (after(8), after(40), after(400));
        match rng.random_range(0..10) {
            0 => Moment::Started(short),
            1 | 2 => Moment::Started(middle),
            3..6 => Moment::Started(long),
            6 => Moment::Told(Mark::Opened, short),
            7 => Moment::Told(Mark::Checkpoint, short),
            _ => Moment::Told(Mark::Closing, short),
        }
    }

    fn is_at(self, mark: Mark) -> bool {
        matches!(self, Moment::Told(m, _) if m == mark)
    }
}

impl Rounds<'_> {
    fn plan(&self, end: End, millis: u64) -> Plan {
        Plan {
            db: self.db.clone(),
            journal: None,
            seed: self.args.seed,
            life: self.life,
            next: self.next.clone(),
            millis,
            end,
            size: Size::Large,
            lie: self.args.lie.then_some(Lie::Confirms),
            queue: None,
        }
    }

    fn round(&mut self) -> Judged<()> {
        self.life += 1;
        let mut rng = ChaCha8Rng::seed_from_u64(self.args.seed ^ u64::from(self.life).wrapping_mul(0xBF58_476D_1CE4_E5B9));
        let moment = Moment::draw(&mut rng);
        let closes = moment.is_at(Mark::Closing);
        let (end, millis) = if closes { (End::Close, rng.random_range(0..200)) } else { (End::Killed, 0) };
        let told = match self.live(end, millis, moment)? {
            Ok(told) => told,
            Err(what) => return Ok(Err(what)),
        };
        self.count(moment, &told);
        self.history.hear_all(told);
        self.next = self.history.next(&self.next);
        // Killed again while it recovers, and in that recovery.
        while rng.random_range(0..3) == 0 {
            self.sum.recovering += 1;
            let moment = Moment::Started(Duration::from_micros(rng.random_range(0..30_000)));
            if let Err(what) = self.live(End::Idle, 0, moment)? {
                return Ok(Err(what));
            }
        }
        let outcome = check::look(&self.plan(End::Drop, 0), &mut self.history);
        Ok(outcome.map(|survivors| {
            self.sum.commits += survivors.commits;
            self.sum.lost += survivors.lost;
        }))
    }

    fn count(&mut self, moment: Moment, told: &[Event]) {
        let has = |event: fn(&Event) -> bool| told.iter().any(event);
        self.sum.opening += u64::from(!has(|e| matches!(e, Event::Opened { .. })));
        self.sum.checkpointing += u64::from(moment.is_at(Mark::Checkpoint) && has(|e| matches!(e, Event::BarrierBegan { .. })));
        self.sum.closed += u64::from(has(|e| matches!(e, Event::Closed)));
        self.sum.closing += u64::from(has(|e| matches!(e, Event::Closing)) && !has(|e| matches!(e, Event::Closed)));
    }

    /// One child, from its start to its end; what it has told.
    fn live(&mut self, end: End, millis: u64, moment: Moment) -> Judged<Vec<Event>> {
        let mut command = part::command(&Part::Load(self.plan(end, millis)))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| Error::file("starting", "a child", e))?;
        let stdout = child.stdout.take();
        let (marks, seen) = channel();
        let listener = std::thread::spawn(move || stdout.map_or_else(|| Ok(Vec::new()), |stdout| listen(stdout, &marks)));
        wait_for(moment, &seen, &mut child);
        let killed = child.kill();
        let output = child.wait_with_output().map_err(|e| Error::file("waiting for", "a child", e))?;
        self.sum.kills += 1;
        let told = listener.join().unwrap_or_else(|_| Err("the listener panicked".into()));
        let told = match told {
            Ok(told) => told,
            Err(what) => return Ok(Err(what)),
        };
        let closed = told.last() == Some(&Event::Closed);
        if killed.is_err() || (output.status.code().is_some() && !(output.status.success() && closed)) {
            let said = String::from_utf8_lossy(&output.stderr);
            return Ok(Err(format!("the process at work ended by itself, {}: {}", output.status, said.trim_end())));
        }
        Ok(Ok(told))
    }
}

/// Waits until it is time to kill.
fn wait_for(moment: Moment, seen: &Receiver<Mark>, child: &mut Child) {
    match moment {
        Moment::Started(after) => std::thread::sleep(after),
        Moment::Told(mark, after) => {
            let until = Instant::now() + Duration::from_secs(20);
            // A child that ends before that closes the channel.
            while seen.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok_and(|m| m != mark) {}
            std::thread::sleep(after);
            drop(child.try_wait());
        }
    }
}

/// Everything a child tells, up to its end.
fn listen(mut stdout: ChildStdout, marks: &Sender<Mark>) -> std::result::Result<Vec<Event>, String> {
    let mut told = Vec::new();
    let mut bytes = vec![0; RECORD << 10];
    let mut filled = 0;
    loop {
        match stdout.read(&mut bytes[filled..]) {
            Ok(0) => return Ok(told),
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(format!("reading what a child tells: {e}")),
        }
        let whole = filled / RECORD * RECORD;
        for event in super::journal::events(&bytes[..whole])? {
            let mark = match event {
                Event::Opened { .. } => Some(Mark::Opened),
                Event::BarrierBegan { .. } => Some(Mark::Checkpoint),
                Event::Closing => Some(Mark::Closing),
                _ => None,
            };
            // Nobody may be waiting any more.
            mark.map(|mark| marks.send(mark));
            told.push(event);
        }
        bytes.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

fn report(rounds: &Rounds<'_>, time: Duration, wrong: Option<&str>, out: &mut Output) -> Result<()> {
    let (sum, args, db) = (&rounds.sum, rounds.args, rounds.db.display());
    let repeat = format!("ashlar stress kill --dir DIR --seed {} --runs {}", args.seed, sum.rounds + 1);
    if out.is_json() {
        return out.object(&json!({
            "rounds": sum.rounds, "kills": sum.kills, "killed_opening": sum.opening, "killed_recovering": sum.recovering,
            "killed_checkpointing": sum.checkpointing, "killed_closing": sum.closing, "closed": sum.closed,
            "commits_found": sum.commits, "commits_lost": sum.lost, "seconds": time.as_secs_f64(), "seed": args.seed,
            "failure": wrong, "kept": wrong.map(|_| db.to_string()), "repeat": wrong.map(|_| &repeat),
        }));
    }
    out.line(format_args!("rounds          {} in {:.1} s, seed {}", sum.rounds, time.as_secs_f64(), args.seed))?;
    out.line(format_args!(
        "kills           {}: {} while opening, {} while recovering again, {} at a checkpoint or flush, {} while closing ({} closed before)",
        sum.kills, sum.opening, sum.recovering, sum.checkpointing, sum.closing, sum.closed
    ))?;
    out.line(format_args!("commits         {} found, {} begun and not there", sum.commits, sum.lost))?;
    if let Some(what) = wrong {
        out.line(format_args!("FAILED          in round {}: {what}", sum.rounds + 1))?;
        out.line(format_args!("kept            {db}"))?;
        out.line(format_args!("repeat          {repeat}"))?;
    }
    Ok(())
}
