//! What a database may hold when calls have failed under one thread's commits.
//!
//! Two sets: what it may hold now (`living`), and what it may hold when it is opened again after a crash (`durable`).
//! - An `Immediate` commit, or a flush, that has succeeded: what it may hold now is all that may be found.
//! - An `Eventual` one: what was there before may be found as well.
//! - One of unknown outcome is there or not.
//! - Any other error means that nothing has happened.

use crate::state::{State, Write, difference};

/// See the module.
#[derive(Clone, Debug)]
pub struct States {
    living: Vec<State>,
    durable: Vec<State>,
}

/// How a commit has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It is durable.
    Durable,
    /// It is applied.
    Applied,
    /// Nobody knows.
    Unknown,
}

impl Default for States {
    /// Of a database that holds nothing.
    fn default() -> States {
        States { living: vec![State::new()], durable: vec![State::new()] }
    }
}

fn add(states: &mut Vec<State>, more: &[State]) {
    for state in more {
        if !states.contains(state) {
            states.push(state.clone());
        }
    }
}

impl States {
    /// A commit has ended.
    pub fn commit(&mut self, writes: &[Write], ended: Ended) {
        let mut after = self.living.clone();
        after.iter_mut().for_each(|state| writes.iter().for_each(|write| write.apply(state)));
        match ended {
            Ended::Durable => {
                self.living = after;
                self.flushed();
            }
            Ended::Applied => {
                add(&mut self.durable, &after);
                self.living = after;
            }
            Ended::Unknown => {
                add(&mut self.durable, &after);
                add(&mut self.living, &after);
            }
        }
    }

    /// All that was applied is durable.
    pub fn flushed(&mut self) {
        self.durable.clone_from(&self.living);
    }

    /// The database shows this: with commits that are not durable, or, where the log has failed, without them.
    ///
    /// # Errors
    /// It can't be.
    pub fn shows(&self, found: &State) -> Result<(), String> {
        if self.living.contains(found) { Ok(()) } else { explain(&self.durable, found) }
    }

    /// The database was opened again and holds this: from here on that is certain.
    ///
    /// # Errors
    /// It can't be.
    pub fn found(&mut self, found: State) -> Result<(), String> {
        explain(&self.durable, &found)?;
        *self = States { living: vec![found.clone()], durable: vec![found] };
        Ok(())
    }
}

fn explain(possible: &[State], found: &State) -> Result<(), String> {
    if possible.contains(found) {
        return Ok(());
    }
    let newest = &possible[possible.len() - 1];
    Err(format!(
        "it holds none of the {} states that it may hold; the newest differs: {}",
        possible.len(),
        difference(newest, found).unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(n: u8) -> Vec<Write> {
        vec![Write::Create { keyspace: "k".into() }, Write::Put { keyspace: "k".into(), key: vec![n], value: vec![n][..].into() }]
    }

    fn holding(keys: &[u8]) -> State {
        let mut state = State::new();
        keys.iter().for_each(|&n| put(n).iter().for_each(|write| write.apply(&mut state)));
        state
    }

    #[test]
    fn what_was_confirmed_must_be_there_and_what_was_not_may_be() {
        let mut states = States::default();
        states.commit(&put(1), Ended::Durable);
        states.commit(&put(2), Ended::Applied);
        states.commit(&put(3), Ended::Applied);
        states.commit(&put(4), Ended::Unknown);
        assert!(states.clone().found(State::new()).is_err());
        for keys in [&[1][..], &[1, 2], &[1, 2, 3], &[1, 2, 3, 4]] {
            assert!(states.clone().found(holding(keys)).is_ok(), "{keys:?}");
        }
        for keys in [&[1, 3][..], &[1, 2, 4], &[1, 2, 3, 4, 5]] {
            assert!(states.clone().found(holding(keys)).is_err(), "{keys:?}");
        }
        states.flushed();
        assert!(states.clone().found(holding(&[1, 2])).is_err());
        assert!(states.shows(&holding(&[1, 2, 3])).is_ok() && states.shows(&holding(&[1])).is_err());
    }
}
