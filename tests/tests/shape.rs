//! What a database says about its own shape: pages by kind as verification counts them, heights, how far a walk is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlardb::verify::Progress;
use ashlardb::{Database, Shape};
use common::{damage, message, quiet, scratch, value_of};

/// "small" in trees of some height, "long" with overflow pages, "large" with runs.
fn fill(db: &Database) {
    for (name, count, len) in [("small", 3000, 100), ("long", 12, 20_000), ("large", 4, 300_000)] {
        let keyspace = db.keyspace(name).unwrap();
        let mut batch = db.batch();
        (0..count).for_each(|i| batch.insert(&keyspace, format!("{name} {i:04}"), value_of(i, len)).unwrap());
        batch.commit().unwrap();
    }
}

/// Walks are told of, page by page, up to the last.
fn watch(walk: impl FnOnce(&mut dyn FnMut(Progress))) -> Progress {
    let mut steps: Vec<Progress> = Vec::new();
    walk(&mut |progress| steps.push(progress));
    assert!(steps.windows(2).all(|pair| pair[0].done <= pair[1].done && pair[0].total == pair[1].total), "{steps:?}");
    steps.pop().unwrap()
}

fn assert_whole(db: &Database) -> Shape {
    let (mut shape, mut report) = (Shape::default(), None);
    let counted = watch(|progress| shape = db.shape(progress).unwrap());
    let verified = watch(|progress| report = Some(db.verify_with(progress).unwrap()));
    let (total, report) = (shape.total(), report.unwrap());
    assert!(report.is_clean(), "{report}");
    assert_eq!((counted.done, verified.done), (counted.total, verified.total));
    assert_eq!(verified.total, report.mapped_pages);
    assert_eq!(total.pages(), counted.total);
    for (name, tree) in &shape.keyspaces {
        let keyspace = db.keyspace(name).unwrap();
        assert_eq!((tree.height, tree.entries), (keyspace.height().unwrap(), keyspace.len().unwrap()), "{name}");
        assert_eq!(tree.height > 1, tree.inner.pages > 0, "{name}");
    }
    shape
}

#[test]
fn pages_are_counted_as_they_are() {
    for slots in [0, 4] {
        let dir = scratch();
        let options = || quiet().slots_max(slots);
        let db = options().open(dir.path().join("db")).unwrap();
        assert_eq!(db.shape(|_| {}).unwrap(), Shape::default(), "there is no checkpoint yet");
        fill(&db);
        db.checkpoint().unwrap();
        let shape = assert_whole(&db);
        let report = db.verify().unwrap();
        let total = shape.total();
        assert_eq!(total.leaves.pages + total.inner.pages, report.tree_pages);
        assert_eq!(
            (total.overflow.pages, total.blob_runs.pages, shape.map_nodes),
            (report.overflow_pages, report.blob_runs, report.map_nodes)
        );
        let [small, long, large] = ["small", "long", "large"].map(|name| &shape.keyspaces[name]);
        assert_eq!((long.overflow.pages, long.overflow.used, small.overflow.pages), (36, 240_000, 0));
        assert_eq!((large.blob_runs.pages, large.blob_runs.used, long.blob_runs.pages), (8, 1_200_000, 0));
        // 3,000 entries of 110 bytes, of which a page's keys share a part.
        assert!((300_000..360_000).contains(&small.leaves.used), "{small:?}");
        let fill = small.leaves.fill(8192).unwrap();
        assert!(if slots == 0 { (0.5..1.0).contains(&fill) } else { fill < 0.06 }, "{fill}");
        assert!(if slots == 0 { small.height == 2 } else { small.height > 5 }, "{small:?}");

        // What was dropped is there until it has been freed.
        db.drop_keyspace("small").unwrap();
        db.checkpoint().unwrap();
        assert_eq!(assert_whole(&db).dropped.leaves, small.leaves);
        while db.maintain().unwrap() {}
        db.checkpoint().unwrap();
        assert_eq!(assert_whole(&db).dropped.pages(), 0);
    }
}

/// A reader's shape has what the open has replayed.
#[test]
fn a_reader_counts_what_the_log_has() {
    let dir = scratch();
    let db = quiet().open(dir.path().join("db")).unwrap();
    fill(&db);
    drop(db);
    let db = quiet().read_only(true).open(dir.path().join("db")).unwrap();
    let shape = db.shape(|_| {}).unwrap();
    assert_eq!((shape.map_nodes, shape.keyspaces["small"].entries, shape.keyspaces["long"].overflow.pages), (0, 3000, 36));
    assert_eq!(shape.keyspaces["large"].blob_runs.pages, 8);
    assert_eq!(shape.keyspaces["small"].height, db.existing_keyspace("small").unwrap().unwrap().height().unwrap());
}

#[test]
fn a_damaged_page_is_named() {
    let dir = scratch();
    let db = quiet().open(dir.path().join("db")).unwrap();
    fill(&db);
    db.close().unwrap();
    let data = dir.path().join("db/data");
    let images = damage::images(&damage::bytes_of(&data), 8192);
    let leaf = images.iter().rfind(|i| i.kind == damage::Kind::Leaf && i.tree > 1).unwrap();
    damage::flip(&data, leaf.block * 4096 + 60, 3);
    for read_only in [false, true] {
        let db = quiet().read_only(read_only).open(dir.path().join("db")).unwrap();
        message(db.shape(|_| {}), &["data", &format!("block {}", leaf.block), &format!("page {}", leaf.page)]);
    }
}
