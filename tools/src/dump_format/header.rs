//! The header of one database in a dump.
//!
//! | keyword | taken as |
//! | --- | --- |
//! | `VERSION` | must be 3, and first |
//! | `format` | `bytevalue` or `print`; must be there |
//! | `database`, `subdatabase` | the name, escaped as in `print` where that makes sense, else as it stands |
//! | `type` | `btree`, `hash`; `recno` and `queue` only with `keys=1` (record numbers as keys) |
//! | `keys` | 1; without keys there is nothing to load under |
//! | `duplicates`, `dupsort` | 0; a key has one value here |
//! | those of [`IGNORED`] | how the other program kept its data: of no meaning here |
//! | anything else | refused: it might mean something |

use super::Format;
use super::line;

/// Keywords that say how another program kept its data.
const IGNORED: [&str; 27] = [
    "mapsize",
    "mapaddr",
    "maxreaders",
    "db_pagesize",
    "db_lorder",
    "bt_minkey",
    "bt_maxkey",
    "chksum",
    "h_ffactor",
    "h_nelem",
    "re_len",
    "re_pad",
    "re_delim",
    "extentsize",
    "recnum",
    "renumber",
    "heap_gbytes",
    "heap_bytes",
    "heap_regionsize",
    "reversekey",
    "integerkey",
    "dupfixed",
    "integerdup",
    "reversedup",
    "nodupdata",
    "read_only",
    "flags",
];

/// What a header says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Header {
    /// The name of the database, as bytes; none for the unnamed one.
    pub(crate) database: Option<Vec<u8>>,
    pub(super) format: Option<Format>,
    by_number: Option<String>,
    has_keys: Option<bool>,
}

impl Header {
    /// Takes one line between `VERSION=3` and `HEADER=END`. An error says what is wrong with it.
    pub(super) fn take(&mut self, text: &[u8]) -> Result<(), String> {
        let Some(equals) = text.iter().position(|&b| b == b'=') else {
            return Err(format!("\"{}\" is no header line: it has no '='", shorten(text)));
        };
        let value = &text[equals + 1..];
        match &text[..equals] {
            b"format" => self.format = Some(format_named(value)?),
            b"database" | b"subdatabase" => self.database = Some(unescape_name(value)),
            b"type" => self.take_type(value)?,
            b"keys" => self.has_keys = Some(flag("keys", value)?),
            b"duplicates" | b"dupsort" => refuse_duplicates(&text[..equals], value)?,
            keyword if IGNORED.iter().any(|ignored| ignored.as_bytes() == keyword) => {}
            keyword => return Err(format!("the header keyword \"{}\" is not known", shorten(keyword))),
        }
        Ok(())
    }

    fn take_type(&mut self, value: &[u8]) -> Result<(), String> {
        match value {
            b"btree" | b"hash" => Ok(()),
            b"recno" | b"queue" => {
                self.by_number = Some(String::from_utf8_lossy(value).into_owned());
                Ok(())
            }
            other => Err(format!("type={} is not known: btree or hash is", shorten(other))),
        }
    }

    /// At `HEADER=END`: the format of the lines that follow, if they can be loaded.
    pub(super) fn finish(&self) -> Result<Format, String> {
        match (&self.by_number, self.has_keys) {
            (Some(kind), None | Some(false)) => Err(format!(
                "type={kind} without keys=1: its entries have numbers for keys, which the dump leaves out; dump it with db_dump -k"
            )),
            (None, Some(false)) => Err("keys=0: there is nothing to load the values under; dump with keys".into()),
            _ => self.format.ok_or_else(|| "the header has no line format=bytevalue or format=print".into()),
        }
    }
}

fn format_named(value: &[u8]) -> Result<Format, String> {
    match value {
        b"bytevalue" => Ok(Format::ByteValue),
        b"print" => Ok(Format::Print),
        other => Err(format!("format={} is not known: bytevalue or print is", shorten(other))),
    }
}

fn flag(keyword: &str, value: &[u8]) -> Result<bool, String> {
    match value {
        b"0" => Ok(false),
        b"1" => Ok(true),
        other => Err(format!("{keyword}={} is neither 0 nor 1", shorten(other))),
    }
}

fn refuse_duplicates(keyword: &[u8], value: &[u8]) -> Result<(), String> {
    let keyword = String::from_utf8_lossy(keyword);
    if flag(&keyword, value)? {
        return Err(format!(
            "{keyword}=1: that database has several values under one key, here a key has one; make the keys different and dump again"
        ));
    }
    Ok(())
}

/// Berkeley DB escapes names as `print` does, LMDB doesn't: what doesn't decode stands for itself.
fn unescape_name(value: &[u8]) -> Vec<u8> {
    let mut name = value.to_vec();
    match line::decode(Format::Print, &mut name, 0) {
        Ok(()) => name,
        Err(_) => value.to_vec(),
    }
}

/// Text from the input for a message.
pub(super) fn shorten(text: &[u8]) -> String {
    const MAX: usize = 40;
    let shown = text[..text.len().min(MAX)].escape_ascii().to_string();
    if text.len() > MAX { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(lines: &[&str]) -> Result<(Header, Format), String> {
        let mut header = Header::default();
        lines.iter().try_for_each(|line| header.take(line.as_bytes()))?;
        let format = header.finish()?;
        Ok((header, format))
    }

    #[test]
    fn headers_of_other_programs_are_taken() {
        let lmdb = ["format=print", "database=a b", "type=btree", "mapsize=1048576", "maxreaders=126", "db_pagesize=4096"];
        let (read, format) = header(&lmdb).unwrap();
        assert_eq!((read.database.as_deref(), format), (Some(&b"a b"[..]), Format::Print));
        let (read, format) = header(&["format=bytevalue", "type=hash", "h_ffactor=5", "duplicates=0", "keys=1"]).unwrap();
        assert_eq!((read.database, format), (None, Format::ByteValue));
        assert!(header(&["format=bytevalue", "type=recno", "keys=1"]).is_ok());
    }

    #[test]
    fn names_are_unescaped_where_that_makes_sense() {
        let name = |line: &str| header(&["format=print", line]).unwrap().0.database.unwrap();
        assert_eq!(name("database=a\\\\b\\c3\\b6"), "a\\bö".as_bytes());
        assert_eq!(name("database=a\\b"), b"a\\b");
        assert_eq!(name("database="), b"");
    }

    #[test]
    fn what_can_not_be_loaded_is_refused_with_its_reason() {
        for (lines, part) in [
            (&["format=print", "duplicates=1"][..], "duplicates=1: that database has several values"),
            (&["format=print", "dupsort=1"], "dupsort=1"),
            (&["format=print", "dupsort=x"], "neither 0 nor 1"),
            (&["format=print", "type=recno"], "db_dump -k"),
            (&["format=print", "keys=0"], "keys=0"),
            (&["type=btree"], "no line format="),
            (&["format=xml"], "format=xml is not known"),
            (&["type=lsm"], "type=lsm is not known"),
            (&["surprise=1"], "keyword \"surprise\" is not known"),
            (&["surprise"], "no '='"),
        ] {
            let error = header(lines).unwrap_err();
            assert!(error.contains(part), "{lines:?}: {error}");
        }
    }
}
