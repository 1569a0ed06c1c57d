//! Starting again after a crash: what the disk holds then.

use super::disk::{Landing, State};
use super::inode::Inode;
use super::names::Names;
use super::survival::{Fate, Survival};
use super::{Sim, SimOptions};
use std::collections::BTreeMap;

/// What ended the life of the machine or of its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// The machine lost power: what was not durable may be gone. What is found now is durable.
    PowerCut,
    /// The process was killed and the machine went on: all that completed is there, and no more durable than it was.
    Kill,
}

impl Sim {
    /// Crashes the machine if it has not crashed yet, and starts it again: the disk as it may be found then, by the new
    /// options' seed. The disk moves over; the old machine fails every call.
    pub fn restart(&self, how: Restart, options: SimOptions) -> Sim {
        self.crash();
        let mut old = self.disk.lock();
        let names = std::mem::replace(&mut old.names, Names::new());
        let inodes = std::mem::take(&mut old.inodes);
        let landings = std::mem::take(&mut old.landings);
        let newest = (old.newest_inode, old.newest_change);
        drop(old);
        let mut survival = Survival::draw(options.seed, newest.1);
        let landings = shuffled(landings, &mut survival);
        let (names, inodes, landings) = match how {
            Restart::PowerCut => cut_power(&names, &inodes, landings, &mut survival),
            Restart::Kill => (names, inodes, landings),
        };
        let mut state = State::new(names, inodes, newest, options.seed, options.capacity);
        land(&mut state, landings, &mut survival);
        state.inodes.values_mut().for_each(|inode| inode.handles = 0);
        state.forget_unreachable();
        Sim::start(state, options)
    }
}

/// What a power cut leaves of everything; of the writes in flight nothing is still to land then.
fn cut_power(
    names: &Names,
    inodes: &BTreeMap<u64, Inode>,
    landings: Vec<Landing>,
    survival: &mut Survival,
) -> (Names, BTreeMap<u64, Inode>, Vec<Landing>) {
    let names = names.survivors(survival);
    let mut left: BTreeMap<u64, _> = inodes.iter().map(|(&id, inode)| (id, inode.survivors(survival))).collect();
    for landing in landings {
        if let Some(file) = left.get_mut(&landing.inode) {
            file.land_in_flight(landing.first, landing.chunks, survival);
        }
    }
    let inodes = left.into_iter().map(|(id, file)| (id, file.into_inode())).collect();
    (names, inodes, Vec::new())
}

/// What the machine did, after the process was killed, of the writes that were in flight: like any other write from now on.
fn land(state: &mut State, landings: Vec<Landing>, survival: &mut Survival) {
    for Landing { inode, first, chunks } in landings {
        let end = first + chunks.len() as u64;
        let has_room = state.check_room(crate::Op::Write, "".as_ref(), inode, first, end).is_ok();
        let number = state.next_change();
        let Some(file) = state.inodes.get_mut(&inode).filter(|_| has_room) else { continue };
        match survival.fate_in_flight() {
            Fate::Whole => file.write(number, first, chunks, false),
            Fate::Torn => {
                let old = file.live.chunks(first, chunks.len() as u64);
                file.write(number, first, survival.tear(&old, &chunks), false);
            }
            Fate::Lost => {}
        }
    }
}

fn shuffled(mut landings: Vec<Landing>, survival: &mut Survival) -> Vec<Landing> {
    for i in (1..landings.len()).rev() {
        landings.swap(i, survival.rng.below(i + 1));
    }
    landings
}
