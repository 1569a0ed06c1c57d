//! Opens a database on disk, writes, reads, scans, verifies, and shows that none of it went through the kernel's page cache.
//!
//! `cargo run --release --example quickstart [DIRECTORY]` (default: `ashlar-quickstart` in the current directory, removed again).

use ashlardb::{Database, Durability, Options};
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given = std::env::args().nth(1).map(PathBuf::from);
    let path = given.clone().unwrap_or_else(|| "ashlar-quickstart".into());
    let db = Options::new().cache_size(64 << 20).open(&path)?;
    println!("opened {} (pages of {} bytes, transfers by {})", path.display(), db.page_size(), db.stats().queue);
    write(&db)?;
    read(&db)?;
    db.checkpoint()?;
    let report = db.verify()?;
    println!("verified: {report}");
    if !report.is_clean() {
        return Err("the database is damaged".into());
    }
    match db.page_cache_residue()? {
        Some(pages) => println!("{pages} pages of it sit in the kernel's page cache"),
        None => println!("this kernel (before 6.5) can't tell how many pages of it sit in its page cache"),
    }
    db.close()?;
    reopen(&path)?;
    if given.is_none() {
        std::fs::remove_dir_all(&path)?;
    }
    Ok(())
}

/// One durable commit, a batch across two keyspaces, many quick commits made durable together, and a value of 10 MiB.
fn write(db: &Database) -> ashlardb::Result<()> {
    let users = db.keyspace("users")?;
    let by_year = db.keyspace("users-by-year")?;
    users.insert("ada", "1815")?;
    let mut batch = db.batch();
    batch.insert(&users, "charles", "1791")?;
    batch.insert(&by_year, "1791", "charles")?;
    batch.insert(&by_year, "1815", "ada")?;
    batch.commit()?;

    let numbers = db.keyspace("numbers")?;
    let started = Instant::now();
    for n in 0..200_000u64 {
        numbers.insert_with(n.to_be_bytes(), format!("the square is {}", n * n), Durability::Eventual)?;
    }
    db.flush()?;
    println!("wrote 200000 entries, one commit each, and made them durable, in {:.2?}", started.elapsed());
    db.keyspace("pictures")?.insert("large", vec![7; 10 << 20])
}

fn read(db: &Database) -> Result<(), Box<dyn std::error::Error>> {
    let users = db.keyspace("users")?;
    let born = users.get("ada")?.ok_or("ada is missing")?;
    println!("ada was born in {}", String::from_utf8_lossy(&born));
    for entry in users.range("b"..) {
        let (name, year) = entry?;
        println!("{} was born in {}", String::from_utf8_lossy(&name), String::from_utf8_lossy(&year));
    }
    let numbers = db.keyspace("numbers")?;
    let forward = numbers.iter().count();
    let backward = numbers.iter().rev().count();
    println!("scanned {forward} entries forward and {backward} backward; the last is {:?}", numbers.last()?.map(|(_, v)| v));
    let picture = db.keyspace("pictures")?.get("large")?.ok_or("the picture is missing")?;
    println!("read a value of {} bytes", picture.len());
    Ok(())
}

fn reopen(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let db = Database::open(path)?;
    println!(
        "opened again in {:.2?}: keyspaces {:?}, {} numbers",
        started.elapsed(),
        db.keyspaces()?,
        db.keyspace("numbers")?.len()?
    );
    db.close()?;
    Ok(())
}
