//! A database with some bytes changed behind its back.

#![no_main]

use ashlar_fuzz::image;
use ashlardb::{Database, Error};
use libfuzzer_sys::fuzz_target;

/// Reads all that can be read, whatever else can't.
fn read(db: &Database) -> Result<(), Error> {
    for name in db.keyspaces()? {
        let Some(keyspace) = db.existing_keyspace(&name)? else { continue };
        keyspace.iter().take_while(Result::is_ok).for_each(drop);
        keyspace.iter().rev().take_while(Result::is_ok).for_each(drop);
        for key in ["key 005", "key 015", "overflow", "blob", "blob in the log", "", "after the clear", "~"] {
            let _ = keyspace.get(key);
        }
    }
    Ok(())
}

/// Writes wherever it can.
fn write(db: &Database) -> Result<(), Error> {
    for name in db.keyspaces()? {
        let Some(keyspace) = db.existing_keyspace(&name)? else { continue };
        let _ = keyspace.insert("key 012", vec![b'x'; 500]);
        let _ = keyspace.insert("blob", vec![b'y'; 30_000]);
        let _ = keyspace.remove("overflow");
        let _ = keyspace.remove("key 030");
    }
    let _ = db.drop_keyspace("right");
    db.checkpoint()?;
    db.maintain()?;
    db.compact()?;
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    // Most inputs are only read: that is several times as fast.
    let Some((&how, changes)) = input.split_first() else { return };
    let fs = image::changed(changes);
    let Ok(db) = image::open(fs.clone()) else { return };
    let _ = read(&db);
    let _ = db.verify();
    if how % 4 == 1 {
        let _ = write(&db);
        let _ = read(&db);
        drop(db);
        let _ = image::open(fs).map(|db| read(&db));
    }
});
