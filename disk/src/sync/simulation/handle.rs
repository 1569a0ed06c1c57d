//! Starting and joining simulated threads.

use super::context::{self, Context};
use super::scheduler::Scheduler;
use super::{Wait, simulated};
use crate::sync::Panicked;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// A simulated thread, for whoever waits for its end.
pub(crate) struct Handle {
    scheduler: Arc<Scheduler>,
    index: usize,
}

impl Context {
    /// Starts a thread of the same run.
    pub(crate) fn spawn(
        &self,
        name: &str,
        f: Box<dyn FnOnce() + Send>,
        place: &'static Location<'static>,
    ) -> std::io::Result<Handle> {
        let index = self.scheduler.add(name, f)?;
        self.switch(place);
        Ok(Handle { scheduler: self.scheduler.clone(), index })
    }
}

impl Handle {
    /// Waits for the thread's end and gives how it ended. Asked outside its run, a thread that has not ended never will.
    pub(crate) fn join(&self, place: &'static Location<'static>) -> Result<(), Panicked> {
        if simulated() {
            context::with(|context| context.switch(place));
        }
        loop {
            if let Some(end) = self.scheduler.ended(self.index) {
                return end;
            }
            if !simulated() {
                let message = "abandoned when its simulation ended".into();
                return Err(Panicked { thread: self.scheduler.name(self.index), message });
            }
            context::with(|context| context.block(Wait::Join(self.index), None, place));
        }
    }

    /// Whether the thread has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.scheduler.ended(self.index).is_some()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated thread {}", self.index)
    }
}
