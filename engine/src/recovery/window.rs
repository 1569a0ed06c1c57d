//! A window of replay: the operations of many commits, gathered, the last one of each key kept, and applied in key order.
//!
//! Invariants:
//! 1. Nothing is allocated for an operation: its bytes are kept as they stand in the record, and a [`Point`] says where.
//! 2. Operations take effect in the order of the log. Between two on ranges or whole keyspaces, [`Step`]s, points may be sorted: of
//!    several on one key the last counts.

use super::replay::promise;
use crate::btree::TreeId;
use crate::commit::apply::{Applier, Names};
use crate::commit::record::{self, Operation};
use crate::error::Result;
use crate::pages::EnginePool;
use std::cmp::Ordering;
use std::ops::Range;

/// What an operation counts for beside its bytes.
const WEIGHT: usize = 64;

/// Points that are handed to a tree at once: as many as keep what is made for each of them in the processor's caches.
const AT_ONCE: usize = 8192;

/// Operations gathered and not yet applied.
#[derive(Default)]
pub(super) struct Window {
    /// Bodies of records.
    bodies: Vec<u8>,
    points: Vec<Point>,
    steps: Vec<Step>,
    weight: usize,
    /// The LSN of the last record.
    last: u64,
}

/// An operation on one key.
#[derive(Clone, Copy)]
struct Point {
    tree: TreeId,
    /// Of the key, behind what all have in common: decides most comparisons.
    head: u64,
    /// Where the operation stands.
    at: usize,
    /// Where its key stands from there, and how long it is.
    key: (u32, u32),
}

/// An operation on a range or on a whole keyspace, after so many points.
struct Step {
    points: usize,
    at: Range<usize>,
    lsn: u64,
}

impl Window {
    /// How much it holds, in bytes: keys, values, and a little for each operation.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Adds a record. Tells `each` of its operations.
    pub(super) fn add(&mut self, body: &[u8], lsn: u64, mut each: impl FnMut(&Operation<'_>)) -> Result<()> {
        let base = self.bodies.len();
        self.bodies.extend_from_slice(body);
        self.last = lsn;
        record::each(body, lsn, |at, operation| {
            each(&operation);
            let (start, size) = (base + at.start, at.len());
            let Some((tree, key)) = operation.point() else {
                self.weight += size + WEIGHT;
                self.steps.push(Step { points: self.points.len(), at: start..start + size, lsn });
                return;
            };
            let value = if let Operation::Put { value, .. } = &operation { value.len() } else { 0 };
            self.weight += key.len() + value + WEIGHT;
            // The key is a part of the body.
            let key_at = key.as_ptr() as usize - body.as_ptr() as usize - at.start;
            self.points.push(Point { tree, head: 0, at: start, key: (key_at as u32, key.len() as u32) });
        })
    }

    /// Applies what was gathered; then it is empty, and keeps its memory.
    pub(super) fn apply(&mut self, pool: &EnginePool, applier: &mut Applier, names: &Names) -> Result<()> {
        let mut done = 0;
        for step in &self.steps {
            apply_points(pool, applier, (&self.bodies, self.weight), &mut self.points[done..step.points], step.lsn)?;
            done = step.points;
            let _promise = promise(pool, 64, 0)?;
            let operation = record::one(&self.bodies[step.at.clone()], step.lsn)?;
            applier.apply_whole(pool, names, step.lsn, &operation)?;
        }
        apply_points(pool, applier, (&self.bodies, self.weight), &mut self.points[done..], self.last)?;
        applier.applied = applier.applied.max(self.last);
        self.bodies.clear();
        self.points.clear();
        self.steps.clear();
        self.weight = 0;
        Ok(())
    }
}

/// Applies points of at most this weight, in the order of their keys, as of `lsn`.
fn apply_points(
    pool: &EnginePool,
    applier: &mut Applier,
    (bodies, weight): (&[u8], usize),
    points: &mut [Point],
    lsn: u64,
) -> Result<()> {
    if points.is_empty() {
        return Ok(());
    }
    let points = last_of_each_key(bodies, points);
    let _promise = promise(pool, (points.len() as u64).min(pool.store().space_use().pages), weight)?;
    let mut operations = Vec::with_capacity(points.len().min(AT_ONCE));
    for of_tree in points.chunk_by(|a, b| a.tree == b.tree) {
        for some in of_tree.chunks(AT_ONCE) {
            operations.clear();
            for point in some {
                operations.push(record::one(&bodies[point.at..], lsn)?);
            }
            applier.apply_points(pool, lsn, some[0].tree, &operations, None)?;
        }
    }
    Ok(())
}

/// Sorts points by tree and key, and moves the last one of each key to the front.
fn last_of_each_key<'a>(bodies: &[u8], points: &'a mut [Point]) -> &'a [Point] {
    let common = common_prefix(bodies, points);
    for point in points.iter_mut() {
        point.head = head(&key_of(bodies, point)[common..]);
    }
    // Of one key in the order of the log: the bodies stand in it.
    points.sort_unstable_by(|a, b| compare(bodies, a, b).then(a.at.cmp(&b.at)));
    let mut kept = 0;
    for i in 0..points.len() {
        let overtaken = points.get(i + 1).is_some_and(|next| compare(bodies, &points[i], next) == Ordering::Equal);
        if !overtaken {
            points[kept] = points[i];
            kept += 1;
        }
    }
    &points[..kept]
}

fn compare(bodies: &[u8], a: &Point, b: &Point) -> Ordering {
    (a.tree, a.head).cmp(&(b.tree, b.head)).then_with(|| key_of(bodies, a).cmp(key_of(bodies, b)))
}

fn key_of<'a>(bodies: &'a [u8], point: &Point) -> &'a [u8] {
    let start = point.at + point.key.0 as usize;
    &bodies[start..start + point.key.1 as usize]
}

/// How many bytes all keys begin with alike.
fn common_prefix(bodies: &[u8], points: &[Point]) -> usize {
    let Some(first) = points.first().map(|point| key_of(bodies, point)) else { return 0 };
    points.iter().fold(first.len(), |common, point| {
        let same = first[..common].iter().zip(key_of(bodies, point)).take_while(|(a, b)| a == b);
        same.count()
    })
}

/// The first eight bytes as a number that compares as they do; zeros behind fewer.
fn head(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let n = key.len().min(8);
    bytes[..n].copy_from_slice(&key[..n]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeMap;

    /// What the points of a window do, sorted, against maps to which they were applied one after the other.
    #[test]
    fn the_last_operation_of_each_key_is_left_in_the_order_of_the_keys() {
        for seed in 0..300 {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let (mut window, mut model) = (Window::default(), BTreeMap::new());
            let common = vec![b'x'; rng.random_range(0..12)];
            for lsn in 1..rng.random_range(2..60) {
                let operations: Vec<(TreeId, Vec<u8>, Option<Vec<u8>>)> = (0..rng.random_range(0..6))
                    .map(|_| {
                        let mut key = common.clone();
                        key.extend((0..rng.random_range(0..12)).map(|_| rng.random_range(0..2u8)));
                        let value = rng.random_bool(0.7).then(|| vec![lsn as u8; rng.random_range(0..20)]);
                        (TreeId(rng.random_range(1..4)), key, value)
                    })
                    .collect();
                let as_written: Vec<Operation<'_>> = operations
                    .iter()
                    .map(|(tree, key, value)| match value {
                        Some(value) => Operation::Put { tree: *tree, key, value },
                        None => Operation::Delete { tree: *tree, key },
                    })
                    .collect();
                window.add(&record::many(&as_written), lsn, |_| ()).unwrap();
                model.extend(operations.iter().map(|(tree, key, value)| ((*tree, key.clone()), value.clone())));
            }
            let left: Vec<_> = last_of_each_key(&window.bodies, &mut window.points)
                .iter()
                .map(|point| match record::one(&window.bodies[point.at..], 1).unwrap() {
                    Operation::Put { tree, key, value } => ((tree, key.to_vec()), Some(value.to_vec())),
                    Operation::Delete { tree, key } => ((tree, key.to_vec()), None),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(left, model.into_iter().collect::<Vec<_>>(), "seed {seed}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_record_is_told() {
        let mut window = Window::default();
        let good = record::single(&Operation::Delete { tree: TreeId(2), key: b"key" });
        assert!(window.add(&good[..good.len() - 1], 7, |_| ()).is_err());
        assert!(window.add(b"\x02", 7, |_| ()).is_err());
    }
}
