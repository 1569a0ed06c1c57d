//! What of a history is set, and not drawn.

use super::faults::Faults;
use crate::lying::Lie;
use ashlardb::fault::Fault;
use std::collections::BTreeMap;

/// What of a history is set by whoever runs it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// A sync that the file system leaves out.
    pub lie: Option<Lie>,
    /// A deliberate mistake of the engine, where it can make any.
    pub fault: Fault,
    /// What may go wrong.
    pub faults: Faults,
    /// Most lives that are drawn.
    pub lives_max: u32,
    /// What is cut off of what was drawn.
    pub caps: Caps,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { lie: None, fault: Fault::None, faults: Faults::crashes(), lives_max: 6, caps: Caps::default() }
    }
}

/// Less than what was drawn: all is drawn as without it, so that what is left is what it was, as far as the rest had no part in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Most lives before the last.
    pub lives: Option<u32>,
    /// Most writers.
    pub writers: Option<u16>,
    /// Most commits of a writer in a life.
    pub commits: Option<u32>,
    /// Most faults, over all lives.
    pub faults: Option<u64>,
    /// Neither readers nor checkpoints beside the writers.
    pub alone: bool,
    /// No threads of the database's own.
    pub manual: bool,
    /// At which call a life crashes, from its start; `None`: not at all.
    pub crashes: BTreeMap<u32, Option<u64>>,
}

impl Caps {
    /// The options of `ashlar stress sim` that set them.
    pub fn options(&self) -> String {
        let mut options = Vec::new();
        options.extend(self.lives.map(|n| format!("--max-lives {n}")));
        options.extend(self.writers.map(|n| format!("--max-writers {n}")));
        options.extend(self.commits.map(|n| format!("--max-commits {n}")));
        options.extend(self.faults.map(|n| format!("--max-faults {n}")));
        options.extend(self.alone.then(|| "--alone".to_owned()));
        options.extend(self.manual.then(|| "--manual".to_owned()));
        options.extend(self.crashes.iter().map(|(life, call)| match call {
            Some(call) => format!("--crash-at {life}:{call}"),
            None => format!("--crash-at {life}:never"),
        }));
        options.join(" ")
    }
}
