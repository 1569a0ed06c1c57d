//! compact: the data file gets short again.

use crate::common::Dir;

fn data_len(dir: &Dir) -> u64 {
    std::fs::metadata(dir.path().join("db/data")).unwrap().len()
}

#[test]
fn compact_gives_free_space_back() {
    let dir = Dir::new();
    let lines = |from: u32, step: usize| -> String {
        (from..60_000).step_by(step).map(|i| format!("{:08}\n{i:0>150}\n", i.wrapping_mul(2_654_435_761) >> 4)).collect()
    };
    dir.pipe("load -T db", lines(0, 1)).done();
    dir.pipe("load -T db -k few", lines(0, 100)).done();
    let full = data_len(&dir);
    {
        let db = ashlardb::Options::new().open(dir.path().join("db")).unwrap();
        // Entries all over the place stay.
        let all = db.keyspace("default").unwrap();
        let gone: Vec<Vec<u8>> =
            all.iter().map(|entry| entry.unwrap().0).enumerate().filter(|(i, _)| i % 50 > 0).map(|(_, k)| k).collect();
        for keys in gone.chunks(1000) {
            let mut batch = db.batch();
            keys.iter().for_each(|key| batch.remove(&all, key).unwrap());
            batch.commit().unwrap();
        }
        db.close().unwrap();
    }
    let object = &dir.run("compact db --json").objects()[0];
    let after = data_len(&dir);
    assert!(after < full / 2, "{after} of {full} bytes, {object}");
    assert_eq!(object["bytes_after"], after);
    assert!(object["bytes_before"].as_u64().unwrap() >= after);
    let text = dir.run("compact db").done();
    assert!(text.starts_with("data: ") && text.ends_with(" moved\n") && text.lines().count() == 1, "{text}");
    assert!(data_len(&dir) <= after);
    assert!(dir.run("verify db").done().ends_with(": no damage\n"));
    let stat = &dir.run("stat db --json").objects()[0];
    assert_eq!((&stat["entries"], &stat["data_bytes"]), (&1800.into(), &data_len(&dir).into()));
    assert!(dir.run("compact none").refused().contains("none"));
}
