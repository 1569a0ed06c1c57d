//! A window of replay: parts of the log, gathered, sorted, the last operation of each key kept, and applied.
//!
//! Invariants:
//! 1. The points of each part are sorted as it comes, while others are still being read; when the window is applied, what is sorted by
//!    parts is merged.
//! 2. Of one key the operations stay in the order of the log. Nothing passes a [`Step`].

use super::by_leaf;
use super::part::{Part, Point, PointsAhead, Step, What};
use super::replay::promise;
use crate::commit::apply::{Applier, Names};
use crate::commit::record;
use crate::error::Result;
use crate::pages::EnginePool;
use crate::postponed::{self, Entry, Sorted, head};
use std::cmp::Ordering;

/// Operations gathered and not yet applied.
#[derive(Default)]
pub(super) struct Window {
    parts: Vec<Part>,
    points: Vec<Point>,
    steps: Vec<Step>,
    weight: usize,
    /// The LSN of the last record.
    last: u64,
    /// What the keys of all points begin with; meaningless without any.
    common: Vec<u8>,
    merged: bool,
}

impl Window {
    /// How much it holds, in bytes: keys, values, and a little for each operation.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// How many operations on one key there are.
    pub(super) fn points(&self) -> usize {
        self.points.len()
    }

    /// Adds the next part of the log.
    pub(super) fn add(&mut self, mut part: Part) {
        self.merged = false;
        self.share_beginning(&part);
        let (number, first) = (self.parts.len() as u32, self.points.len());
        let moved = |step: Step| Step { points: first + step.points, part: number, ..step };
        let (mut points, steps) = (std::mem::take(&mut part.points), std::mem::take(&mut part.steps));
        for point in &mut points {
            (point.part, point.head) = (number, head(&part.key(point)[self.common.len()..]));
        }
        self.weight += part.weight;
        self.last = part.last.max(self.last);
        self.parts.push(part);
        let mut from = 0;
        for end in steps.iter().map(|step| step.points).chain([points.len()]) {
            // Of one key in the order of the log: the bodies stand in it.
            points[from..end].sort_unstable_by(|a, b| compare(&self.parts, a, b).then(a.key.at.cmp(&b.key.at)));
            from = end;
        }
        self.points.append(&mut points);
        self.steps.extend(steps.into_iter().map(moved));
    }

    /// Sees to it that `common` is what the keys of the points and those of `part` begin with.
    fn share_beginning(&mut self, part: &Part) {
        let Some(first) = part.points.first() else { return };
        if self.points.is_empty() {
            self.common = part.key(first).to_vec();
        }
        let same = |common: usize, key: &[u8]| self.common[..common].iter().zip(key).take_while(|(a, b)| a == b).count();
        let common = part.points.iter().fold(self.common.len(), |common, point| same(common, part.key(point)));
        if common < self.common.len() {
            self.common.truncate(common);
            let parts = &self.parts;
            self.points.iter_mut().for_each(|point| point.head = head(&key_of(parts, point)[common..]));
        }
    }

    /// Brings all points into the order in which they are applied, if they are not in it yet.
    pub(super) fn merge(&mut self) {
        if !std::mem::replace(&mut self.merged, true) {
            let mut from = 0;
            for end in self.steps.iter().map(|step| step.points).chain([self.points.len()]) {
                // This sort takes what is in order as it is, and leaves equal ones in the order they have.
                self.points[from..end].sort_by(|a, b| compare(&self.parts, a, b));
                from = end;
            }
        }
    }

    /// Applies what was gathered by having it wait, to be merged into the trees once the database is open: the log is replayed from the flush
    /// at `from` on. False: it can't wait, for there are operations on more than a key, or that name blobs, or it would take more than
    /// `bytes_max` bytes.
    pub(super) fn postpone(&mut self, pool: &EnginePool, applier: &mut Applier, from: u64, bytes_max: u64) -> bool {
        let record_bytes: usize = self.parts.iter().map(|part| part.bodies.len()).sum();
        let bytes = record_bytes as u64 + self.points.len() as u64 * postponed::OVERHEAD;
        let is_blob = |point: &Point| matches!(point.what, What::PutBlob(_));
        if !self.steps.is_empty() || self.points.is_empty() || bytes > bytes_max || self.points.iter().any(is_blob) {
            return false;
        }
        self.merge();
        let Window { parts, mut points, last, common, .. } = std::mem::take(self);
        let kept = last_of_each_key(&parts, &mut points).len();
        points.truncate(kept);
        // In the memory of the points: both are of one size.
        let entries: Vec<Entry> = points.into_iter().map(entry).collect();
        let records = parts.into_iter().map(|part| part.bodies).collect();
        applier.postpone_replayed(pool, from, record_bytes, Sorted::new(last, records, common, entries));
        true
    }

    /// Applies what was gathered; then it is empty, and keeps its memory.
    pub(super) fn apply(&mut self, pool: &EnginePool, applier: &mut Applier, names: &Names) -> Result<()> {
        self.merge();
        let mut done = 0;
        for step in &self.steps {
            apply_points(pool, applier, (&self.parts, self.weight), &mut self.points[done..step.points], step.lsn)?;
            done = step.points;
            let _promise = promise(pool, 64, 0)?;
            let operation = record::one(&self.parts[step.part as usize].bodies[step.at.clone()], step.lsn)?;
            applier.apply_whole(pool, names, step.lsn, &operation)?;
        }
        apply_points(pool, applier, (&self.parts, self.weight), &mut self.points[done..], self.last)?;
        applier.applied = applier.applied.max(self.last);
        self.parts.clear();
        self.points.clear();
        self.steps.clear();
        self.weight = 0;
        Ok(())
    }
}

/// Applies points, in order, of at most this weight, as of `lsn`.
fn apply_points(
    pool: &EnginePool,
    applier: &mut Applier,
    (parts, weight): (&[Part], usize),
    points: &mut [Point],
    lsn: u64,
) -> Result<()> {
    if points.is_empty() {
        return Ok(());
    }
    let points = last_of_each_key(parts, points);
    let _promise = promise(pool, (points.len() as u64).min(pool.store().space_use().pages), weight)?;
    let mut operations = Vec::new();
    for of_tree in points.chunk_by(|a, b| a.tree == b.tree) {
        let tree = of_tree[0].tree;
        let Some(keyspace) = applier.keyspace(tree) else { continue };
        let runs = by_leaf::runs(pool, keyspace.tree()?, parts, of_tree);
        let mut ahead = PointsAhead::of(parts, of_tree, runs.iter().flat_map(|run| run.points.clone()));
        by_leaf::each(pool, &runs, |run| {
            operations.clear();
            for point in &of_tree[run.points.clone()] {
                ahead.step();
                operations.push(parts[point.part as usize].operation(point, lsn)?);
            }
            applier.apply_points(pool, lsn, tree, &operations, run.leaf)
        })?;
    }
    Ok(())
}

/// One takes the place of the other in memory.
const _: () = assert!(size_of::<Point>() == size_of::<Entry>());

/// A point, no blob, as a write that waits.
fn entry(point: Point) -> Entry {
    let Point { tree, head, part, key, what } = point;
    Entry { tree, head, record: part, key, value: if let What::Put(value) = what { Some(value) } else { None } }
}

/// Moves the last one of each key to the front of points that are in order.
fn last_of_each_key<'a>(parts: &[Part], points: &'a mut [Point]) -> &'a [Point] {
    let mut kept = 0;
    for i in 0..points.len() {
        let overtaken = points.get(i + 1).is_some_and(|next| compare(parts, &points[i], next) == Ordering::Equal);
        if !overtaken {
            points[kept] = points[i];
            kept += 1;
        }
    }
    &points[..kept]
}

fn compare(parts: &[Part], a: &Point, b: &Point) -> Ordering {
    (a.tree, a.head).cmp(&(b.tree, b.head)).then_with(|| key_of(parts, a).cmp(key_of(parts, b)))
}

fn key_of<'a>(parts: &'a [Part], point: &Point) -> &'a [u8] {
    parts[point.part as usize].key(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btree::TreeId;
    use crate::commit::record::Operation;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeMap;

    /// What the points of a window do, sorted, against maps to which they were applied one after the other; between steps by themselves.
    #[test]
    fn the_last_operation_of_each_key_is_left_in_the_order_of_the_keys() {
        for seed in 0..500 {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let (mut window, mut part, mut models) = (Window::default(), Part::default(), vec![BTreeMap::new()]);
            let common = vec![b'x'; rng.random_range(0..12)];
            for lsn in 1..rng.random_range(2..60) {
                // Now and then the keys of a part share more, or all less.
                let own = &common[..if rng.random_bool(0.02) { common.len() / 2 } else { common.len() }];
                let operations: Vec<(TreeId, Vec<u8>, Option<Vec<u8>>)> = (0..rng.random_range(0..6))
                    .map(|_| {
                        let mut key = own.to_vec();
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
                part.add(&record::many(&as_written), lsn).unwrap();
                let model = models.last_mut().unwrap();
                model.extend(operations.iter().map(|(tree, key, value)| ((*tree, key.clone()), value.clone())));
                if rng.random_bool(0.05) {
                    let step = Operation::DropKeyspace { tree: TreeId(9), name: "gone" };
                    part.add(&record::many(&[step]), lsn).unwrap();
                    models.push(BTreeMap::new());
                }
                if rng.random_bool(0.2) {
                    window.add(std::mem::take(&mut part));
                }
            }
            window.add(part);
            window.merge();
            let (mut from, steps) = (0, std::mem::take(&mut window.steps));
            assert_eq!(steps.len() + 1, models.len());
            let ends = steps.iter().map(|step| step.points).chain([window.points.len()]);
            for (end, model) in ends.zip(models) {
                let left: Vec<_> = last_of_each_key(&window.parts, &mut window.points[from..end])
                    .iter()
                    .map(|point| match window.parts[point.part as usize].operation(point, 1).unwrap() {
                        Operation::Put { tree, key, value } => ((tree, key.to_vec()), Some(value.to_vec())),
                        Operation::Delete { tree, key } => ((tree, key.to_vec()), None),
                        other => panic!("{other:?}"),
                    })
                    .collect();
                assert_eq!(left, model.into_iter().collect::<Vec<_>>(), "seed {seed}");
                from = end;
            }
            for step in steps {
                let operation = record::one(&window.parts[step.part as usize].bodies[step.at.clone()], 1).unwrap();
                assert_eq!(operation, Operation::DropKeyspace { tree: TreeId(9), name: "gone" });
            }
        }
    }
}
