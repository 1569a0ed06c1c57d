//! What a read gave, and what it should have given of a state.

use crate::state::{Bytes, Entries, KeyRange, State, in_range, show, show_range};
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

/// An entry that an iterator gave, or its end.
pub(super) type Item = Option<(Vec<u8>, Bytes)>;

/// A read and what it gave.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Whether there is a keyspace of that name.
    Keyspace { keyspace: Arc<str>, found: bool },
    /// That the keyspace of a handle is gone. There may be another of that name.
    Gone { keyspace: Arc<str> },
    /// A key's value.
    Get { keyspace: Arc<str>, key: Vec<u8>, found: Option<Bytes> },
    /// Whether a key is there.
    Has { keyspace: Arc<str>, key: Vec<u8>, found: bool },
    /// Several keys at once.
    Many { keyspace: Arc<str>, keys: Vec<Vec<u8>>, found: Vec<Option<Bytes>> },
    /// A range, gone over by these moves (true: from the back) until it was given up.
    Range { keyspace: Arc<str>, range: KeyRange, moves: Vec<bool>, found: Vec<Item> },
    /// The number of entries.
    Len { keyspace: Arc<str>, found: u64 },
    /// That there are entries.
    Filled { keyspace: Arc<str> },
}

impl Seen {
    fn keyspace(&self) -> &Arc<str> {
        match self {
            Seen::Keyspace { keyspace, .. }
            | Seen::Get { keyspace, .. }
            | Seen::Has { keyspace, .. }
            | Seen::Many { keyspace, .. }
            | Seen::Range { keyspace, .. }
            | Seen::Len { keyspace, .. }
            | Seen::Filled { keyspace }
            | Seen::Gone { keyspace } => keyspace,
        }
    }

    /// Compares it with what the state says.
    pub(super) fn compare(&self, state: &State) -> Result<(), String> {
        let Some(entries) = state.get(&**self.keyspace()) else {
            return match self {
                Seen::Keyspace { found: false, .. } | Seen::Gone { .. } => Ok(()),
                _ => Err("there is no such keyspace".into()),
            };
        };
        let differs = |expected: String| Err(format!("it should be {expected}"));
        match self {
            Seen::Keyspace { found: false, .. } | Seen::Gone { .. } => differs("there".into()),
            Seen::Get { key, found, .. } if entries.get(key) != found.as_ref() => differs(show_value(entries.get(key))),
            Seen::Has { key, found, .. } if entries.contains_key(key) != *found => differs(entries.contains_key(key).to_string()),
            Seen::Len { found, .. } if entries.len() as u64 != *found => differs(entries.len().to_string()),
            Seen::Filled { .. } if entries.is_empty() => differs("empty".into()),
            Seen::Many { keys, found, .. } => match keys.iter().zip(found).find(|(k, f)| entries.get(*k) != f.as_ref()) {
                Some((key, _)) => Err(format!("{} should hold {}", show(key), show_value(entries.get(key)))),
                None => Ok(()),
            },
            Seen::Range { range, moves, found, .. } => compare_range(entries, range, moves, found),
            _ => Ok(()),
        }
    }

    /// Whether what it was drawn from is another in another state: not only what it gave, but all that it went over.
    pub(super) fn can_tell(&self, one: &State, other: &State) -> bool {
        let (one, other) = match (one.get(&**self.keyspace()), other.get(&**self.keyspace())) {
            (Some(one), Some(other)) => (one, other),
            (None, None) => return false,
            _ => return true,
        };
        match self {
            Seen::Keyspace { .. } | Seen::Gone { .. } => false,
            Seen::Get { key, .. } => one.get(key) != other.get(key),
            Seen::Has { key, .. } => one.contains_key(key) != other.contains_key(key),
            Seen::Many { keys, .. } => keys.iter().any(|key| one.get(key) != other.get(key)),
            Seen::Len { .. } => one.len() != other.len(),
            Seen::Filled { .. } => one.is_empty() != other.is_empty(),
            Seen::Range { range, moves, found, .. } => {
                let covers = |key: &[u8]| in_range(range, key) && is_gone_over(key, moves, found);
                let of = |entries: &Entries| -> Vec<(Vec<u8>, Bytes)> {
                    entries.iter().filter(|(key, _)| covers(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
                };
                of(one) != of(other)
            }
        }
    }
}

/// Whether an iterator with these moves has gone over a key in its range.
fn is_gone_over(key: &[u8], moves: &[bool], found: &[Item]) -> bool {
    moves.iter().zip(found).any(|(from_back, item)| match item {
        None => true,
        Some((reached, _)) if *from_back => key >= &reached[..],
        Some((reached, _)) => key <= &reached[..],
    })
}

fn compare_range(entries: &Entries, range: &KeyRange, moves: &[bool], found: &[Item]) -> Result<(), String> {
    let mut expected = entries.iter().filter(|(key, _)| in_range(range, key));
    for (nth, (from_back, found)) in moves.iter().zip(found).enumerate() {
        let next = if *from_back { expected.next_back() } else { expected.next() };
        if next != found.as_ref().map(|(k, v)| (k, v)) {
            return Err(format!("move {nth} should give {}", show_item(next)));
        }
    }
    Ok(())
}

fn show_value(value: Option<&Bytes>) -> String {
    value.map_or("nothing".to_owned(), |v| show(v))
}

fn show_item(item: Option<(&Vec<u8>, &Bytes)>) -> String {
    item.map_or("the end".to_owned(), |(k, v)| format!("{}={}", show(k), show(v)))
}

impl Debug for Seen {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let keyspace = self.keyspace();
        match self {
            Seen::Keyspace { found, .. } => write!(f, "keyspace {keyspace} is there: {found}"),
            Seen::Get { key, found, .. } => write!(f, "get {keyspace}/{} gives {}", show(key), show_value(found.as_ref())),
            Seen::Has { key, found, .. } => write!(f, "{keyspace}/{} is there: {found}", show(key)),
            Seen::Gone { .. } => write!(f, "{keyspace} is gone"),
            Seen::Filled { .. } => write!(f, "{keyspace} is not empty"),
            Seen::Len { found, .. } => write!(f, "len of {keyspace} gives {found}"),
            Seen::Many { keys, found, .. } => {
                write!(f, "get_many {keyspace} gives")?;
                keys.iter().zip(found).try_for_each(|(k, v)| write!(f, " {}={}", show(k), show_value(v.as_ref())))
            }
            Seen::Range { range, moves, found, .. } => {
                write!(f, "{keyspace}/{} gives", show_range(range))?;
                moves.iter().zip(found).try_for_each(|(from_back, item)| {
                    let item = show_item(item.as_ref().map(|(k, v)| (k, v)));
                    write!(f, " {}{item}", if *from_back { "<" } else { ">" })
                })
            }
        }
    }
}
