//! What each commit does: it follows from seed, life, writer and number alone, so that whoever checks can tell without being told.

use super::value::{LEN_MIN, MAPS, OWN};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Accounts between which transactions move money.
pub(super) const ACCOUNTS: usize = 16;

/// One write of a writer, to keys of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Write {
    Put {
        map: u8,
        key: u16,
        len: u32,
    },
    Remove {
        map: u8,
        key: u16,
    },
    /// The keys from the first up to, not including, the second.
    RemoveRange {
        map: u8,
        from: u16,
        to: u16,
    },
}

/// The form in which the writes are committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// By the keyspace's own call.
    Single,
    /// As a batch, across keyspaces.
    Batch,
    /// As a transaction that also counts, and moves an amount from an account to another.
    Transaction { from: usize, to: usize, amount: i64 },
    /// The writer's own keyspace is emptied.
    Clear,
    /// The writer's own keyspace is dropped and made again, with new entries, in one transaction.
    Replace,
}

/// A commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Op {
    pub(super) form: Form,
    pub(super) writes: Vec<Write>,
    pub(super) immediate: bool,
}

/// What the commits of one life have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) writers: u8,
    /// Keys a writer has in a map.
    pub(super) keys: u16,
    /// Of 16 commits, so many are `Immediate`.
    immediate: u8,
    /// Of 16 writes, so many put; the others remove.
    puts: u8,
    /// Of 64 commits, so many empty or replace a keyspace.
    whole: u8,
    /// Of 16 commits, so many are transactions.
    transactions: u8,
}

/// How much there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum Size {
    /// Some tens of MiB at most.
    Small,
    /// Some hundreds.
    Large,
}

impl Shape {
    /// Of the life of that number. Every life draws anew whether it grows the database or shrinks it.
    pub(super) fn draw(seed: u64, life: u32, size: Size) -> Shape {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ u64::from(life).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5AA7);
        let keys = match size {
            Size::Small => [12, 60, 250],
            Size::Large => [40, 400, 2000],
        };
        Shape {
            writers: rng.random_range(1..=4),
            keys: keys[rng.random_range(0..3)],
            immediate: [1, 4, 8, 15][rng.random_range(0..4)],
            puts: [4, 10, 14][rng.random_range(0..3)],
            whole: [0, 0, 1, 4][rng.random_range(0..4)],
            transactions: [1, 4, 12][rng.random_range(0..3)],
        }
    }
}

impl Op {
    /// The commit of that number.
    pub(super) fn draw(seed: u64, life: u32, writer: u8, number: u32, shape: &Shape) -> Op {
        let mixed =
            seed ^ (u64::from(life) << 40 | u64::from(writer) << 32 | u64::from(number)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let mut rng = ChaCha8Rng::seed_from_u64(mixed);
        let immediate = rng.random_range(0..16) < shape.immediate;
        if rng.random_range(0..64) < shape.whole {
            return Op::whole(&mut rng, shape, immediate);
        }
        if rng.random_range(0..16) < shape.transactions {
            let (from, step) = (rng.random_range(0..ACCOUNTS), rng.random_range(1..ACCOUNTS));
            let form = Form::Transaction { from, to: (from + step) % ACCOUNTS, amount: rng.random_range(1..1000) };
            let count = rng.random_range(0..6);
            return Op { form, writes: writes(&mut rng, shape, count), immediate };
        }
        let count = [1, 1, 1, 2, 5, 24][rng.random_range(0..6)];
        let writes = writes(&mut rng, shape, count);
        // A range by the keyspace's own call is as durable as the database's default: immediate.
        let range = matches!(writes[..], [Write::RemoveRange { .. }]);
        let form = if count == 1 { Form::Single } else { Form::Batch };
        Op { form, writes, immediate: immediate || range }
    }

    fn whole(rng: &mut ChaCha8Rng, shape: &Shape, immediate: bool) -> Op {
        if rng.random() {
            return Op { form: Form::Clear, writes: Vec::new(), immediate: true };
        }
        let writes = (0..rng.random_range(1..8)).map(|_| put(rng, OWN, shape)).collect();
        Op { form: Form::Replace, writes, immediate }
    }
}

fn writes(rng: &mut ChaCha8Rng, shape: &Shape, count: usize) -> Vec<Write> {
    (0..count).map(|_| write(rng, shape)).collect()
}

fn write(rng: &mut ChaCha8Rng, shape: &Shape) -> Write {
    let map = rng.random_range(0..=MAPS);
    if rng.random_range(0..16) < shape.puts {
        return put(rng, map, shape);
    }
    let key = rng.random_range(0..shape.keys);
    match rng.random_range(0..8) {
        0 => Write::RemoveRange { map, from: key, to: key + rng.random_range(1..=1 + shape.keys / 4) },
        _ => Write::Remove { map, key },
    }
}

fn put(rng: &mut ChaCha8Rng, map: u8, shape: &Shape) -> Write {
    let key = rng.random_range(0..shape.keys);
    // Few keys have values that stand outside of the trees, so that the whole stays within its bounds.
    let len = match rng.random_range(0..16) {
        0..2 if key.is_multiple_of(40) => rng.random_range(60_000..300_000),
        2..3 => rng.random_range(3000..20_000),
        3..8 => rng.random_range(200..2000),
        _ => rng.random_range(LEN_MIN..200),
    };
    Write::Put { map, key, len }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_numbers_give_the_same_commit_and_others_another() {
        let shape = Shape::draw(5, 1, Size::Small);
        let all: Vec<Op> = (0..200).map(|n| Op::draw(5, 1, 0, n, &shape)).collect();
        assert_eq!(all, (0..200).map(|n| Op::draw(5, 1, 0, n, &shape)).collect::<Vec<_>>());
        assert_ne!(all[..50], (0..50).map(|n| Op::draw(6, 1, 0, n, &shape)).collect::<Vec<_>>());
        assert_ne!(all[..50], (0..50).map(|n| Op::draw(5, 1, 1, n, &shape)).collect::<Vec<_>>());
    }

    #[test]
    fn every_kind_of_commit_comes() {
        let mut seen = std::collections::BTreeSet::new();
        for life in 0..20 {
            let shape = Shape::draw(1, life, Size::Large);
            for number in 0..500 {
                let op = Op::draw(1, life, 0, number, &shape);
                let form = match op.form {
                    Form::Single => 0,
                    Form::Batch => 1,
                    Form::Transaction { from, to, .. } => {
                        assert_ne!(from, to);
                        2
                    }
                    Form::Clear => 3,
                    Form::Replace => 4,
                };
                seen.insert((form, op.immediate));
                for write in &op.writes {
                    let kind = match write {
                        Write::Put { len, .. } => 10 + i32::from(*len > 64 << 10),
                        Write::Remove { .. } => 12,
                        Write::RemoveRange { from, to, .. } => {
                            assert!(from < to);
                            13
                        }
                    };
                    seen.insert((kind, false));
                }
            }
        }
        assert_eq!(seen.len(), 9 + 4, "{seen:?}");
    }
}
