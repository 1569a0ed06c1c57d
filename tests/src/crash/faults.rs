//! Which faults a history may meet, and which of them a life does.
//!
//! A history whose faults are all tolerable is judged by the strict rules: what was confirmed is there as soon as the faults stop. One
//! with corrupting faults may be refused, or tell of damage, and must never give a wrong value.

use ashlar_disk::sim::{FaultKind, FaultRates};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// What may go wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Faults {
    /// Whether the machine loses power, or the process is killed, in the midst of things.
    pub crashes: bool,
    /// What else.
    pub kinds: BTreeSet<FaultKind>,
}

impl Faults {
    /// Crashes and nothing else.
    pub fn crashes() -> Faults {
        Faults { crashes: true, kinds: BTreeSet::new() }
    }

    /// Crashes, and all that a disk tells of.
    pub fn io() -> Faults {
        Faults { crashes: true, kinds: FaultKind::ALL.into_iter().filter(|k| k.is_tolerable()).collect() }
    }

    /// Crashes, and all that a disk does not tell of.
    pub fn corrupting() -> Faults {
        Faults { crashes: true, kinds: FaultKind::ALL.into_iter().filter(|k| !k.is_tolerable()).collect() }
    }

    /// Everything.
    pub fn all() -> Faults {
        Faults { crashes: true, kinds: FaultKind::ALL.into() }
    }

    /// What of it one history meets: of the two classes now one, now the other, now both, so that both ways to judge have their share.
    pub(super) fn of_history(&self, rng: &mut ChaCha8Rng) -> Faults {
        let of_class = |tolerable| self.kinds.iter().copied().filter(move |k| k.is_tolerable() == tolerable);
        let (tolerable, corrupting): (BTreeSet<_>, BTreeSet<_>) = (of_class(true).collect(), of_class(false).collect());
        let kinds = match rng.random_range(0..4) {
            0 | 1 if !tolerable.is_empty() => tolerable,
            2 if !corrupting.is_empty() => corrupting,
            _ => self.kinds.clone(),
        };
        Faults { crashes: self.crashes, kinds }
    }

    /// Whether what is stored or read may be falsified.
    pub(super) fn corrupt(&self) -> bool {
        self.kinds.iter().any(|k| !k.is_tolerable())
    }
}

impl std::str::FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        let mut faults = Faults { crashes: false, kinds: BTreeSet::new() };
        for word in text.split(',') {
            let more = match word {
                "none" => continue,
                "crash" => Faults::crashes(),
                "io" => Faults::io(),
                "corrupt" => Faults::corrupting(),
                "all" => Faults::all(),
                name => match FaultKind::ALL.into_iter().find(|k| k.name() == name) {
                    Some(kind) => Faults { crashes: false, kinds: [kind].into() },
                    None => {
                        let kinds = FaultKind::ALL.map(FaultKind::name).join(", ");
                        return Err(format!("{name:?} is none of: none, crash, io, corrupt, all, {kinds}"));
                    }
                },
            };
            faults.crashes |= more.crashes;
            faults.kinds.extend(more.kinds);
        }
        Ok(faults)
    }
}

/// As [`FromStr`](std::str::FromStr) reads it.
impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = [("all", Faults::all()), ("io", Faults::io()), ("corrupt", Faults::corrupting())];
        if let Some((word, _)) = words.iter().find(|(_, faults)| faults == self) {
            return f.write_str(word);
        }
        let crash = self.crashes.then_some("crash");
        let words: Vec<&str> = crash.into_iter().chain(self.kinds.iter().map(|k| k.name())).collect();
        f.write_str(if words.is_empty() { "none".into() } else { words.join(",") }.as_str())
    }
}

/// The faults of one life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    pub(super) rates: FaultRates,
    /// Whether they come from the beginning, or once the database has been opened and compared.
    pub(super) in_open: bool,
    /// How many bytes of files there is room for beyond what there is, once it has been opened.
    pub(super) room: Option<u64>,
}

impl Plan {
    /// None.
    pub(super) fn none() -> Plan {
        Plan { rates: FaultRates::none(), in_open: false, room: None }
    }

    /// Some of what may come, rare or often. As many draws whatever may come, so that leaving out a kind changes nothing else.
    pub(super) fn draw(faults: &Faults, rng: &mut ChaCha8Rng) -> Plan {
        let mut plan = Plan { in_open: rng.random_ratio(1, 4), ..Plan::none() };
        let (some, often) = (rng.random_ratio(3, 4), [20, 100, 500][rng.random_range(0..3)]);
        for kind in FaultKind::ALL {
            let comes = rng.random::<bool>() || faults.kinds.len() == 1;
            if some && comes && faults.kinds.contains(&kind) {
                plan.rates = plan.rates.with(kind, FaultRates::OF / often);
            }
        }
        let room = [0, 64 << 10, 300 << 10, 1 << 20][rng.random_range(0..4)];
        let full = rng.random_ratio(1, 3) && some && faults.kinds.contains(&FaultKind::NoSpace);
        Plan { room: full.then_some(room), ..plan }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        for text in ["none", "crash", "io", "corrupt", "all", "crash,bit-flip", "read-error,lost-write"] {
            let faults: Faults = text.parse().expect("known");
            assert_eq!(faults.to_string(), text);
        }
        assert_eq!("crash,io".parse::<Faults>().expect("known"), Faults::io());
        assert!("crash,gremlins".parse::<Faults>().unwrap_err().contains("misdirected-write"));
    }

    #[test]
    fn leaving_out_a_kind_changes_nothing_else() {
        use rand::SeedableRng;
        for seed in 0..50 {
            let draw = |faults: &Faults| Plan::draw(faults, &mut ChaCha8Rng::seed_from_u64(seed));
            let (all, mut fewer) = (Faults::all(), Faults::all());
            fewer.kinds.remove(&FaultKind::BitFlip);
            let (all, fewer) = (draw(&all), draw(&fewer));
            assert_eq!(fewer.rates, all.rates.with(FaultKind::BitFlip, 0));
            assert_eq!((fewer.in_open, fewer.room), (all.in_open, all.room));
        }
    }
}
