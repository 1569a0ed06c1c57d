//! Any bytes as a dump file, and as plain text pairs.

#![no_main]

#[allow(dead_code, unused_imports, reason = "not all that the command uses is used here")]
#[path = "../../../tools/src/dump_format/mod.rs"]
mod dump_format;

use dump_format::{DumpWriter, Event, Format, ParseError, Parser};
use libfuzzer_sys::fuzz_target;

/// A database of a dump: its name, and its entries.
type Read = Vec<(Option<Vec<u8>>, Vec<(Vec<u8>, Vec<u8>)>)>;

fn read<R: std::io::BufRead>(mut parser: Parser<R>) -> Result<Read, ParseError> {
    let mut found = Read::new();
    while let Some((event, _)) = parser.next_event()? {
        match event {
            Event::Begin(header) => found.push((header.database.clone(), Vec::new())),
            Event::Entry { key, value } => {
                let (_, entries) = found.last_mut().expect("an entry stands in a database");
                entries.push((key.to_vec(), value.to_vec()));
            }
            Event::End => {}
        }
    }
    Ok(found)
}

fn written(databases: &Read, format: Format) -> Vec<u8> {
    let mut writer = DumpWriter::new(Vec::new(), format, None);
    for (name, entries) in databases {
        let name = name.as_deref().map(|name| std::str::from_utf8(name).expect("checked before"));
        writer.begin(name).expect("memory");
        entries.iter().for_each(|(key, value)| writer.entry(key, value).expect("memory"));
        writer.end().expect("memory");
    }
    writer.finish().expect("memory")
}

fuzz_target!(|input: &[u8]| {
    let _ = read(Parser::plain(input));
    let Ok(databases) = read(Parser::dump(input)) else { return };
    // Names that a keyspace can have, and that come back.
    let is_name = |name: &Vec<u8>| std::str::from_utf8(name).is_ok_and(|n| !n.is_empty() && !n.chars().any(char::is_control));
    if databases.iter().all(|(name, _)| name.as_ref().is_none_or(is_name)) {
        for format in [Format::ByteValue, Format::Print] {
            let again = read(Parser::dump(&written(&databases, format)[..])).expect("what was written is read");
            assert_eq!(again, databases);
        }
    }
});
