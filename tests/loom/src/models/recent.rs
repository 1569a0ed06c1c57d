//! The horizon of those who may come to write (`engine/src/versions/slots.rs`), with the list of recent commits that is trimmed by it
//! (`engine/src/commit/recent.rs`).

use super::recent::{Manner, Order, Pending, TrimAt};
use crate::fault::Fault;
use crate::models::Model;
use crate::options::Durability;
use crate::sync::Mutex;
use crate::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use crate::txn::Footprint;
use crate::versions::slots::{Kind, Slots};
use loom::sync::Arc;
use loom::thread::spawn;

struct Engine {
    slots: Slots,
    /// The newest applied LSN.
    applied: AtomicU64,
    /// The list, and the LSN of the newest commit in it, trimmed or not.
    order: Mutex<(Order, u64)>,
}

/// How far a commit lets the list be trimmed.
#[derive(Clone, Copy)]
enum Trim {
    AsNeeded { bytes_max: u64 },
    All,
}

impl Engine {
    /// Enters and applies a commit, and has the list trimmed.
    fn commit(&self, lsn: u64, trim: Trim) {
        {
            let mut order = self.order.lock();
            let record = std::sync::Arc::from([0; 8].as_slice());
            order.0.enter(
                Pending { lsn, flush_start: 0, record, manner: Manner::Points, hint: None, durability: Durability::Immediate },
                &[],
            );
            order.1 = lsn;
        }
        self.applied.store(lsn, Release);
        let at = match trim {
            Trim::AsNeeded { bytes_max } => TrimAt::Needed { applied: lsn, bytes_max },
            Trim::All => TrimAt::Exactly(lsn),
        };
        self.order.lock().0.applied(&self.slots, lsn, at);
    }

    /// A transaction that relies on everything: it must be refused if anything was committed since it began.
    fn transact(&self) {
        let claim = self.slots.claim(Kind::Writes, || self.applied.load(Acquire));
        let order = self.order.lock();
        let refused = order.0.validate(&Footprint, claim.lsn()).is_err();
        assert!(
            refused || order.1 <= claim.lsn() || self.slots.is_gone(&claim),
            "a transaction at {} has not met the commit at {}",
            claim.lsn(),
            order.1
        );
        drop(order);
        self.slots.release(&claim);
    }
}

fn run(fault: Fault, trim: Trim) {
    let slots = Slots::new(fault);
    // The first slot is taken, by somebody who holds nothing back: the transaction claims one that was never in use.
    let other = slots.claim(Kind::Writes, || 100);
    let engine = Arc::new(Engine { slots, applied: AtomicU64::new(5), order: Mutex::new((Order::default(), 5)) });
    let transaction = spawn({
        let engine = Arc::clone(&engine);
        move || engine.transact()
    });
    engine.commit(10, trim);
    transaction.join().unwrap();
    engine.slots.release(&other);
}

/// Of a transaction that begins and a commit that trims the list, one sees the other.
pub const TRIMMED: Model = Model {
    name: "writers' horizon: a transaction begins while the list is trimmed",
    preemptions: None,
    body: || run(Fault::None, Trim::AsNeeded { bytes_max: 1000 }),
};

/// A transaction is taken away before what it needs leaves the list.
pub const TAKEN_AWAY: Model = Model {
    name: "writers' horizon: a transaction is taken away for memory",
    preemptions: Some(3),
    body: || run(Fault::None, Trim::AsNeeded { bytes_max: 0 }),
};

/// With a transaction that does not look whether the horizon has passed.
pub const NOT_REREAD: Model = Model {
    name: "writers' horizon not read again",
    preemptions: None,
    body: || run(Fault::WritersHorizonNotReread, Trim::AsNeeded { bytes_max: 1000 }),
};

/// With a list that is trimmed whoever needs it.
pub const TRIMMED_AT_WATERMARK: Model =
    Model { name: "trimmed at the watermark", preemptions: None, body: || run(Fault::None, Trim::All) };
