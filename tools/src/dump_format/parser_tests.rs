//! The parser under test: what is written comes back, and what is wrong is named.

use super::super::DumpWriter;
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

type Entry = (Vec<u8>, Vec<u8>);
type Database = (Option<Vec<u8>>, Vec<Entry>);

fn read_all(mut parser: Parser<&[u8]>) -> Result<Vec<Database>, String> {
    let mut all: Vec<Database> = Vec::new();
    loop {
        match parser.next_event().map_err(|e| e.to_string())? {
            Some((Event::Begin(header), _)) => all.push((header.database.clone(), Vec::new())),
            Some((Event::Entry { key, value }, _)) => all.last_mut().unwrap().1.push((key.to_vec(), value.to_vec())),
            Some((Event::End, _)) => {}
            None => return Ok(all),
        }
    }
}

fn dump(text: &str) -> Result<Vec<Database>, String> {
    read_all(Parser::dump(text.as_bytes()))
}

const HEAD: &str = "VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n";

#[test]
fn databases_follow_each_other() {
    let text = format!("{HEAD} 61\n 31\nDATA=END\n\nVERSION=3\nformat=print\ndatabase=two\nHEADER=END\n b\n \nDATA=END");
    let entry = |k: &[u8], v: &[u8]| (k.to_vec(), v.to_vec());
    assert_eq!(dump(&text).unwrap(), [(None, vec![entry(b"a", b"1")]), (Some(b"two".to_vec()), vec![entry(b"b", b"")])]);
    assert_eq!(dump(&format!("{HEAD}DATA=END\n")).unwrap(), [(None, vec![])]);
}

#[test]
fn errors_name_line_and_column() {
    for (text, expected) in [
        ("".into(), "line 1, column 1: the input is empty"),
        ("\n".into(), "line 1, column 1: \"\" stands where VERSION=3 should"),
        ("key,value\n".into(), "line 1, column 1: \"key,value\" stands where VERSION=3 should"),
        ("VERSION=2\n".into(), "line 1, column 9: version 2 of the dump format is not known"),
        ("VERSION=3\r\n".into(), "line 1, column 10: the lines end in carriage returns"),
        ("VERSION=3\nformat=print\n".into(), "line 2, column 1: the input ends within a header"),
        ("VERSION=3\nformat=print\ndupsort=1\n".into(), "line 3, column 1: dupsort=1"),
        ("VERSION=3\ntype=btree\nHEADER=END\n".into(), "line 3, column 1: the header has no line format="),
        (format!("{HEAD} 61\n 31\n"), "line 6, column 1: the input ends without DATA=END"),
        (format!("{HEAD} 61\n"), "line 5, column 1: the input ends after a key"),
        (format!("{HEAD} 61\nDATA=END\n"), "line 6, column 1: DATA=END stands where the value for the key of line 5"),
        (format!("{HEAD} 6\n 31\nDATA=END\n"), "line 5, column 2: an odd number of hex digits"),
        (format!("{HEAD} 61\n 3x\nDATA=END\n"), "line 6, column 3: 'x' is no hex digit"),
        (format!("{HEAD}61\n 31\nDATA=END\n"), "line 5, column 1: \"61\" stands where an entry's key"),
        (format!("{HEAD} 61\n\nDATA=END\n"), "line 6, column 1: \"\" stands where an entry's value"),
        (format!("{HEAD}DATA=END\njunk\n"), "line 6, column 1: \"junk\" stands where VERSION=3"),
    ] {
        let error = dump(&text).unwrap_err();
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn an_entry_before_the_error_is_given_first() {
    let text = format!("{HEAD} 61\n 31\n zz\n");
    let mut parser = Parser::dump(text.as_bytes());
    assert!(matches!(parser.next_event(), Ok(Some((Event::Begin(_), 4)))));
    assert!(matches!(parser.next_event(), Ok(Some((Event::Entry { .. }, 5)))));
    assert!(parser.next_event().is_err());
}

#[test]
fn plain_text_is_pairs_of_lines() {
    let read = |text: &str| read_all(Parser::plain(text.as_bytes()));
    let entries = read("a\n1\n\\00 \n\\\\\n").unwrap();
    assert_eq!(entries, [(None, vec![(b"a".to_vec(), b"1".to_vec()), (b"\0 ".to_vec(), b"\\".to_vec())])]);
    assert_eq!(read("").unwrap(), [(None, vec![])]);
    assert!(read("a\n1\nb\n").unwrap_err().starts_with("line 3, column 1: the input ends after a key"));
    assert!(read("a\nx\\q\n").unwrap_err().starts_with("line 2, column 2: a backslash"));
}

#[test]
fn a_reader_that_fails_is_no_end() {
    struct Failing(bool);
    impl std::io::Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(std::io::Error::other("the cable is out"));
            }
            into[..HEAD.len()].copy_from_slice(HEAD.as_bytes());
            Ok(HEAD.len())
        }
    }
    let mut parser = Parser::dump(std::io::BufReader::new(Failing(false)));
    assert!(parser.next_event().is_ok());
    assert_eq!(parser.next_event().unwrap_err().to_string(), "reading after line 4 failed: the cable is out");
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

/// Text that is often nearly a dump.
fn nearly_a_dump() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"VERSION=3\n".to_vec()),
        Just(b"format=print\n".to_vec()),
        Just(b"format=bytevalue\n".to_vec()),
        Just(b"type=btree\n".to_vec()),
        Just(b"database=\\zz\n".to_vec()),
        Just(b"HEADER=END\n".to_vec()),
        Just(b"DATA=END\n".to_vec()),
        Just(b" 61\n".to_vec()),
        Just(b" \\".to_vec()),
        Just(b"\n".to_vec()),
        bytes(),
    ];
    vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_written_comes_back(
        databases in vec((proptest::option::of("[ -~äß]{1,12}"), vec((bytes(), bytes()), 0..8)), 1..4),
        print: bool,
        mapsize: Option<u64>,
    ) {
        let format = if print { Format::Print } else { Format::ByteValue };
        let mut writer = DumpWriter::new(Vec::new(), format, mapsize);
        for (name, entries) in &databases {
            writer.begin(name.as_deref()).unwrap();
            entries.iter().for_each(|(key, value)| writer.entry(key, value).unwrap());
            writer.end().unwrap();
        }
        let text = writer.finish().unwrap();
        let expected: Vec<Database> = databases.into_iter().map(|(name, e)| (name.map(String::into_bytes), e)).collect();
        prop_assert_eq!(read_all(Parser::dump(&text)).unwrap(), expected);
    }

    #[test]
    fn garbage_ends_in_an_error_or_in_entries(text in nearly_a_dump()) {
        let _ = read_all(Parser::dump(&text));
        let _ = read_all(Parser::plain(&text));
    }

    /// Only at the very end of a database does a dump end without an error.
    #[test]
    fn a_dump_that_is_cut_short_is_noticed(entries in vec((bytes(), bytes()), 1..5), cut in any::<prop::sample::Index>()) {
        let mut writer = DumpWriter::new(Vec::new(), Format::ByteValue, None);
        writer.begin(Some("d")).unwrap();
        entries.iter().for_each(|(key, value)| writer.entry(key, value).unwrap());
        writer.end().unwrap();
        let text = writer.finish().unwrap();
        // Without its last line end alone it is whole.
        let len = cut.index(text.len() - 1);
        prop_assert!(read_all(Parser::dump(&text[..len])).is_err());
    }
}
