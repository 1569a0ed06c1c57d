//! Something done every so often in a thread of its own, until it is dropped: for engines that do not make commits durable by
//! themselves.

use anyhow::{Context, Result};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long commits of rows of eventual durability may stay undurable: as with Ashlar.
pub const EVENTUAL: Duration = Duration::from_millis(100);

/// The thread. Dropped, it has ended.
pub struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Calls `step` every `pause`. A step that fails ends the process: a row whose commits do not become durable counts for nothing.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(pause: Duration, mut step: impl FnMut() -> Result<()> + Send + 'static) -> Result<Ticker> {
        let (stop, stopped): (Sender<()>, Receiver<()>) = channel();
        let body = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                if let Err(error) = step() {
                    eprintln!("error: making commits durable in the background: {error:#}");
                    std::process::exit(1);
                }
            }
        };
        let thread = std::thread::Builder::new().name("ticker".into()).spawn(body).context("starting a thread")?;
        Ok(Ticker { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has told of a failure itself.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[test]
    fn it_ticks_until_it_is_dropped() {
        let ticks = Arc::new(AtomicU32::new(0));
        let counted = ticks.clone();
        let ticker = Ticker::start(Duration::from_millis(1), move || {
            counted.fetch_add(1, Relaxed);
            Ok(())
        });
        while ticks.load(Relaxed) < 3 {
            std::thread::yield_now();
        }
        drop(ticker.unwrap());
        let then = ticks.load(Relaxed);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(ticks.load(Relaxed), then);
    }
}
