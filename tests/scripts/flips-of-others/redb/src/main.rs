//! Makes a redb database of the entries in a file, reads one back, or has it checked: for `flips.py`.

use redb::{Database, ReadableTable, TableDefinition};
use std::io::Write;

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("kv");

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn make(path: &str, entries: &str) -> Outcome {
    let db = Database::create(path)?;
    let write = db.begin_write()?;
    {
        let mut table = write.open_table(TABLE)?;
        for line in std::fs::read_to_string(entries)?.lines() {
            if let Some((key, value)) = line.split_once(' ') {
                table.insert(&unhex(key)[..], &unhex(value)[..])?;
            }
        }
    }
    Ok(write.commit()?)
}

fn read(path: &str) -> Outcome {
    let db = Database::open(path)?;
    let read = db.begin_read()?;
    let table = read.open_table(TABLE)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for entry in table.iter()? {
        let (key, value) = entry?;
        writeln!(out, "{} {}", hex(key.value()), hex(value.value()))?;
    }
    Ok(out.flush()?)
}

fn check(path: &str) -> Outcome {
    if Database::open(path)?.check_integrity()? { Ok(()) } else { Err("check_integrity found damage".into()) }
}

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["make", path, entries] => make(path, entries),
        ["read", path] => read(path),
        ["check", path] => check(path),
        _ => Err("make PATH ENTRIES | read PATH | check PATH".into()),
    }
}
