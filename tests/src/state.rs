//! What a database holds, as plain ordered maps: the model that every test compares with.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A value's bytes; shared, since models keep many copies of the same state.
pub type Bytes = Arc<[u8]>;

/// The entries of one keyspace.
pub type Entries = BTreeMap<Vec<u8>, Bytes>;

/// Every keyspace by its name. One that is there may be empty.
pub type State = BTreeMap<String, Entries>;

/// A range of keys that owns its bounds.
pub type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Whether `key` lies in `range`. Ranges whose bounds cross hold nothing.
pub fn in_range(range: &KeyRange, key: &[u8]) -> bool {
    let above = match &range.0 {
        Bound::Included(from) => key >= &from[..],
        Bound::Excluded(from) => key > &from[..],
        Bound::Unbounded => true,
    };
    let below = match &range.1 {
        Bound::Included(to) => key <= &to[..],
        Bound::Excluded(to) => key < &to[..],
        Bound::Unbounded => true,
    };
    above && below
}

/// One write of a commit.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// A key gets a value.
    Put {
        /// The keyspace.
        keyspace: Arc<str>,
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Bytes,
    },
    /// A key goes, if it is there.
    Remove {
        /// The keyspace.
        keyspace: Arc<str>,
        /// The key.
        key: Vec<u8>,
    },
    /// All keys of a range go.
    RemoveRange {
        /// The keyspace.
        keyspace: Arc<str>,
        /// Which.
        range: KeyRange,
    },
    /// A keyspace is there from now on; nothing happens to one that is.
    Create {
        /// The keyspace.
        keyspace: Arc<str>,
    },
    /// A keyspace goes with all it holds.
    Drop {
        /// The keyspace.
        keyspace: Arc<str>,
    },
    /// All keys of a keyspace go.
    Clear {
        /// The keyspace.
        keyspace: Arc<str>,
    },
}

impl Write {
    /// The keyspace it is about.
    pub fn keyspace(&self) -> &Arc<str> {
        match self {
            Write::Put { keyspace, .. }
            | Write::Remove { keyspace, .. }
            | Write::RemoveRange { keyspace, .. }
            | Write::Create { keyspace }
            | Write::Drop { keyspace }
            | Write::Clear { keyspace } => keyspace,
        }
    }

    /// Does it to a state. A write to a keyspace that is not there is without effect.
    pub fn apply(&self, state: &mut State) {
        match self {
            Write::Create { keyspace } => {
                state.entry(keyspace.to_string()).or_default();
                return;
            }
            Write::Drop { keyspace } => {
                state.remove(&**keyspace);
                return;
            }
            _ => {}
        }
        let Some(entries) = state.get_mut(&**self.keyspace()) else { return };
        match self {
            Write::Put { key, value, .. } => drop(entries.insert(key.clone(), value.clone())),
            Write::Remove { key, .. } => drop(entries.remove(key)),
            Write::RemoveRange { range, .. } => entries.retain(|key, _| !in_range(range, key)),
            Write::Clear { .. } => entries.clear(),
            Write::Create { .. } | Write::Drop { .. } => {}
        }
    }
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Write::Put { keyspace, key, value } => write!(f, "put {keyspace}/{} = {}", show(key), show(value)),
            Write::Remove { keyspace, key } => write!(f, "remove {keyspace}/{}", show(key)),
            Write::RemoveRange { keyspace, range } => write!(f, "remove {keyspace}/{}", show_range(range)),
            Write::Create { keyspace } => write!(f, "create {keyspace}"),
            Write::Drop { keyspace } => write!(f, "drop {keyspace}"),
            Write::Clear { keyspace } => write!(f, "clear {keyspace}"),
        }
    }
}

/// Bytes for a message: short ones whole, long ones by their beginning and length.
pub fn show(bytes: &[u8]) -> String {
    const SHOWN: usize = 16;
    if bytes.len() <= SHOWN {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    format!("\"{}…\" ({} bytes)", bytes[..SHOWN].escape_ascii(), bytes.len())
}

/// A range for a message.
pub fn show_range(range: &KeyRange) -> String {
    let from = match &range.0 {
        Bound::Included(k) => format!("[{}", show(k)),
        Bound::Excluded(k) => format!("({}", show(k)),
        Bound::Unbounded => "(".into(),
    };
    let to = match &range.1 {
        Bound::Included(k) => format!("{}]", show(k)),
        Bound::Excluded(k) => format!("{})", show(k)),
        Bound::Unbounded => ")".into(),
    };
    format!("{from}..{to}")
}

/// The first difference between two states, in words; `None` where they are the same.
pub fn difference(expected: &State, found: &State) -> Option<String> {
    let names: std::collections::BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    for name in names {
        match (expected.get(name), found.get(name)) {
            (Some(_), None) => return Some(format!("keyspace {name} is gone")),
            (None, Some(_)) => return Some(format!("keyspace {name} should not be there")),
            (Some(expected), Some(found)) => {
                if let Some(text) = difference_of_entries(expected, found) {
                    return Some(format!("keyspace {name}: {text}"));
                }
            }
            (None, None) => {}
        }
    }
    None
}

/// The first difference between the entries of a keyspace.
pub fn difference_of_entries(expected: &Entries, found: &Entries) -> Option<String> {
    let keys: std::collections::BTreeSet<&Vec<u8>> = expected.keys().chain(found.keys()).collect();
    let differs = |key: &&&Vec<u8>| expected.get(**key) != found.get(**key);
    keys.iter().find(differs).map(|&key| {
        let value = |v: Option<&Bytes>| v.map_or("nothing".to_owned(), |v| show(v));
        format!("{} holds {}, expected {}", show(key), value(found.get(key)), value(expected.get(key)))
    })
}
