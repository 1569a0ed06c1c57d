//! What a transaction conflicts with: what it has read, or under `Snapshot` written, and nothing else.

use super::{One, conflicts, letters};
use ashlardb::{Error, Isolation, Keyspace, Transaction};
use std::ops::Bound;

/// Something that somebody else commits meanwhile.
type Other = (&'static str, fn(&One));

const PUT_M: Other = ("put m", |one| one.k.insert("m", "theirs").unwrap());
const PUT_G: Other = ("put g", |one| one.k.insert("g", "theirs").unwrap());
const PUT_GG: Other = ("put gg, which was absent", |one| one.k.insert("gg", "theirs").unwrap());
const REMOVE_G: Other = ("remove g", |one| one.k.remove("g").unwrap());
const REMOVE_GG: Other = ("remove gg, which is absent", |one| one.k.remove("gg").unwrap());
const REMOVE_F_TO_H: Other = ("remove f..h", |one| one.k.remove_range("f".."h").unwrap());
const REMOVE_B_TO_C: Other = ("remove b..c", |one| one.k.remove_range("b".."c").unwrap());
const REMOVE_ABOVE_H: Other =
    ("remove (h..", |one| one.k.remove_range::<&str>((Bound::Excluded("h"), Bound::Unbounded)).unwrap());
const REMOVE_FROM_H: Other = ("remove h..", |one| one.k.remove_range("h"..).unwrap());
const CLEAR: Other = ("clear", |one| one.k.clear().unwrap());
const DROP: Other = ("drop", |one| assert!(one.db.drop_keyspace("k").unwrap()));
const REFILL: Other = ("clear, then a bulk load", |one| {
    one.k.clear().unwrap();
    let entries = ["f", "g"].map(|key| Ok::<_, Error>((key, key)));
    one.k.bulk_load(entries).unwrap();
});

/// Whether a serializable transaction that does `reads`, while somebody else does `other`, and then writes elsewhere, conflicts.
fn reads_conflict(reads: fn(&Transaction, &Keyspace), other: Other, isolation: Isolation) -> bool {
    let one = One::with_letters("acefghijkz");
    let elsewhere = one.db.keyspace("elsewhere").unwrap();
    let mut tx = one.db.begin_with(isolation).unwrap();
    reads(&tx, &one.k);
    (other.1)(&one);
    tx.insert(&elsewhere, "a", "").unwrap();
    conflicts(tx)
}

/// What was read, what conflicts with it, what does not.
struct Case {
    what: &'static str,
    reads: fn(&Transaction, &Keyspace),
    conflicts: &'static [Other],
    others: &'static [Other],
}

const CASES: [Case; 9] = [
    Case {
        what: "get g",
        reads: |tx, k| assert!(tx.get(k, "g").unwrap().is_some()),
        conflicts: &[PUT_G, REMOVE_G, REMOVE_F_TO_H, CLEAR, DROP, REFILL],
        others: &[PUT_M, PUT_GG, REMOVE_GG, REMOVE_FROM_H, REMOVE_B_TO_C],
    },
    Case {
        what: "get gg, which is absent",
        reads: |tx, k| assert!(tx.get(k, "gg").unwrap().is_none()),
        conflicts: &[PUT_GG, REMOVE_F_TO_H, CLEAR, DROP, REFILL],
        others: &[PUT_G, REMOVE_G, PUT_M, REMOVE_FROM_H, REMOVE_B_TO_C],
    },
    Case {
        what: "f..=h",
        reads: |tx, k| assert_eq!(tx.range(k, "f"..="h").count(), 3),
        conflicts: &[PUT_G, PUT_GG, REMOVE_G, REMOVE_GG, REMOVE_F_TO_H, REMOVE_FROM_H, CLEAR, DROP, REFILL],
        others: &[PUT_M, REMOVE_ABOVE_H, REMOVE_B_TO_C],
    },
    Case {
        what: "f..h in reverse",
        reads: |tx, k| assert_eq!(tx.range(k, "f".."h").rev().count(), 2),
        conflicts: &[PUT_G, PUT_GG, REMOVE_G, REMOVE_F_TO_H, CLEAR, DROP, REFILL],
        others: &[PUT_M, REMOVE_ABOVE_H, REMOVE_FROM_H, REMOVE_B_TO_C],
    },
    Case {
        what: "prefix g from both ends",
        reads: |tx, k| {
            let mut range = tx.prefix(k, "g");
            assert!(range.next_back().is_some() && range.next().is_none());
        },
        conflicts: &[PUT_G, PUT_GG, REMOVE_G, REMOVE_F_TO_H, CLEAR, DROP, REFILL],
        others: &[PUT_M, REMOVE_FROM_H, REMOVE_B_TO_C],
    },
    Case {
        what: "len",
        reads: |tx, k| assert_eq!(tx.len(k).unwrap(), 10),
        conflicts: &[PUT_G, PUT_GG, PUT_M, REMOVE_G, REMOVE_F_TO_H, CLEAR, DROP, REFILL],
        others: &[],
    },
    Case {
        what: "first",
        reads: |tx, k| assert_eq!(tx.first(k).unwrap().unwrap().0, b"a"),
        conflicts: &[CLEAR, DROP, REFILL],
        others: &[PUT_G, REMOVE_B_TO_C, REMOVE_FROM_H, PUT_M],
    },
    Case {
        what: "last",
        reads: |tx, k| assert_eq!(tx.last(k).unwrap().unwrap().0, b"z"),
        conflicts: &[REMOVE_FROM_H, CLEAR, DROP, REFILL],
        others: &[PUT_G, PUT_M, REMOVE_F_TO_H],
    },
    Case { what: "nothing", reads: |_, _| {}, conflicts: &[], others: &[PUT_G, PUT_M, REMOVE_F_TO_H, CLEAR, DROP, REFILL] },
];

#[test]
fn with_what_was_read() {
    for Case { what, reads, conflicts, others } in CASES {
        for other in conflicts {
            assert!(reads_conflict(reads, *other, Isolation::Serializable), "{what} against {}", other.0);
            assert!(!reads_conflict(reads, *other, Isolation::Snapshot), "{what} against {}: not written", other.0);
        }
        for other in others {
            assert!(!reads_conflict(reads, *other, Isolation::Serializable), "{what} has nothing to do with {}", other.0);
        }
    }
}

/// A scan that is given up relies on what it went over: up to the last entry that it gave, with the gap before it.
#[test]
fn a_scan_given_up_early() {
    type Reads = fn(&Transaction, &Keyspace);
    let upward: Reads = |tx, k| assert_eq!(tx.iter(k).take(3).last().unwrap().unwrap().0, b"e");
    let downward: Reads = |tx, k| assert_eq!(tx.iter(k).rev().take(3).last().unwrap().unwrap().0, b"j");
    let both: Reads = |tx, k| {
        let mut range = tx.range(k, "b"..);
        assert_eq!((range.next().unwrap().unwrap().0, range.next_back().unwrap().unwrap().0), (b"c".to_vec(), b"z".to_vec()));
    };
    let keys = ["", "a", "b", "c", "d", "e", "ea", "g", "j", "ja", "y", "z", "zz"];
    let hit = |reads: Reads| -> Vec<&str> {
        let meets = |key: &&str| {
            let one = One::with_letters("acefghijkz");
            let elsewhere = one.db.keyspace("elsewhere").unwrap();
            let mut tx = one.db.begin().unwrap();
            reads(&tx, &one.k);
            one.k.insert(key, "theirs").unwrap();
            tx.insert(&elsewhere, "a", "").unwrap();
            conflicts(tx)
        };
        keys.into_iter().filter(meets).collect()
    };
    assert_eq!(hit(upward), ["", "a", "b", "c", "d", "e"]);
    assert_eq!(hit(downward), ["j", "ja", "y", "z", "zz"]);
    assert_eq!(hit(both), ["b", "c", "z", "zz"]);
}

/// Own writes are no reads: what they hide is not relied on.
#[test]
fn own_writes_that_are_read_back() {
    let one = One::with_letters("abc");
    let mut tx = one.db.begin().unwrap();
    tx.insert(&one.k, "a", "mine").unwrap();
    tx.remove(&one.k, "b").unwrap();
    tx.remove_range(&one.k, "x".."z").unwrap();
    assert_eq!(tx.get(&one.k, "a").unwrap().unwrap(), b"mine");
    assert_eq!(tx.get_many(&one.k, ["b", "y"]).unwrap(), [None, None]);
    one.k.insert("a", "theirs").unwrap();
    one.k.insert("b", "theirs").unwrap();
    one.k.insert("y", "theirs").unwrap();
    tx.commit().unwrap();
    assert_eq!(one.k.get("a").unwrap().unwrap(), b"mine");
    assert_eq!(letters(&one.k), "ac");
}

/// What a transaction has written and only written conflicts with no write, only with the loss of its keyspace.
#[test]
fn blind_writes() {
    for (other, conflict) in [(PUT_G, false), (REMOVE_F_TO_H, false), (PUT_M, false), (CLEAR, true), (DROP, true), (REFILL, true)]
    {
        let one = One::with_letters("acefghijkz");
        let mut tx = one.db.begin().unwrap();
        tx.insert(&one.k, "g", "mine").unwrap();
        tx.remove(&one.k, "m").unwrap();
        tx.remove_range(&one.k, "h".."k").unwrap();
        (other.1)(&one);
        assert_eq!(conflicts(tx), conflict, "{}", other.0);
        if !conflict {
            assert_eq!(one.k.get("g").unwrap().unwrap(), b"mine");
            assert!(one.k.get("m").unwrap().is_none() && one.k.get("i").unwrap().is_none());
        }
    }
}

/// Under `Snapshot` of two that write one key, or one of whose writes is a range with the key in it, the first to commit wins.
#[test]
fn the_first_committer_wins() {
    type Writes = fn(&mut Transaction, &Keyspace);
    let put_g: Writes = |tx, k| tx.insert(k, "g", "mine").unwrap();
    let put_gg: Writes = |tx, k| tx.insert(k, "gg", "mine").unwrap();
    let remove_g: Writes = |tx, k| tx.remove(k, "g").unwrap();
    let remove_range: Writes = |tx, k| tx.remove_range(k, "f"..="h").unwrap();
    let remove_inside: Writes = |tx, k| {
        tx.remove_range(k, "f"..="h").unwrap();
        tx.insert(k, "g", "mine").unwrap();
    };
    let clear: Writes = |tx, k| tx.clear(k).unwrap();
    let drop_it: Writes = |tx, _| assert!(tx.drop_keyspace("k").unwrap());
    let all: &[Other] = &[PUT_G, PUT_GG, REMOVE_G, REMOVE_F_TO_H, PUT_M, CLEAR, DROP, REFILL];
    let inside: &[Other] = &[PUT_G, PUT_GG, REMOVE_G, REMOVE_F_TO_H, CLEAR, DROP, REFILL];
    let on_g: &[Other] = &[PUT_G, REMOVE_G, REMOVE_F_TO_H, CLEAR, DROP, REFILL];
    let on_gg: &[Other] = &[PUT_GG, REMOVE_GG, REMOVE_F_TO_H, CLEAR, DROP, REFILL];
    let cases = [(put_g, on_g), (put_gg, on_gg), (remove_g, on_g), (remove_range, inside), (remove_inside, inside)];
    for (number, (writes, with)) in cases.into_iter().chain([(clear, all), (drop_it, all)]).enumerate() {
        for other in [PUT_M, PUT_G, PUT_GG, REMOVE_G, REMOVE_GG, REMOVE_F_TO_H, REMOVE_B_TO_C, CLEAR, DROP, REFILL] {
            // A removal of what is not there is a write as well.
            let is_with = with.iter().chain(if number >= 3 { &[REMOVE_GG][..] } else { &[] }).any(|o| o.0 == other.0);
            let is_with = is_with || number >= 5;
            let one = One::with_letters("acefghijkz");
            let mut tx = one.db.begin_with(Isolation::Snapshot).unwrap();
            writes(&mut tx, &one.k);
            (other.1)(&one);
            assert_eq!(conflicts(tx), is_with, "case {number} against {}", other.0);
        }
    }
}

/// A conflict leaves nothing, and the next try goes through.
#[test]
fn a_retry_sees_what_it_lost_to() {
    let one = One::with_letters("a");
    let mut tries = 0;
    let seen = one.db.transact(|tx| {
        tries += 1;
        let seen = tx.get(&one.k, "a")?.unwrap();
        tx.insert(&one.k, "b", &seen)?;
        tx.insert(&one.k, format!("try {tries}"), "")?;
        if tries < 4 {
            one.k.insert("a", format!("{tries}"))?;
        }
        Ok(seen.to_vec())
    });
    assert_eq!((tries, seen.unwrap()), (4, b"3".to_vec()));
    assert_eq!(one.k.get("b").unwrap().unwrap(), b"3");
    assert_eq!(one.k.prefix("try").count(), 1);
}
