//! The dump format that Berkeley DB and LMDB share, written and read. Knows bytes and lines, nothing of databases.
//!
//! ```text
//! VERSION=3            a header: the version first, then any of the keywords, each on a line of its own
//! format=bytevalue     how bytes are written: bytevalue (lowercase hex) or print (see `line`)
//! database=users       which of several databases follows; without it: the unnamed one
//! type=btree
//! HEADER=END
//!  616461              an entry: its key on a line after one space,
//!  31383135            then its value, likewise
//! DATA=END             what has no such line was cut short
//! VERSION=3            perhaps another database
//! …
//! ```
//!
//! What the other programs really do (Berkeley DB 5.3, LMDB 0.9; the round trips in `tests/peers.rs` hold it):
//! 1. `db_load` reads uppercase hex digits wrongly and refuses keywords that it doesn't know, `mapsize` among them; `mdb_load`
//!    ignores what it doesn't know, but fails beyond its default map size if no `mapsize` is given.
//! 2. `db_dump` escapes the name after `database=` as `print` does, in either format; `mdb_dump` writes it as it is.
//! 3. Both take a backslash as two or as `\5c`; `db_dump -p` writes two. But `mdb_load` mistakes two that follow another escape on
//!    the same line for another byte. So `\5c` is written here.
//! 4. `mdb_dump -p` writes a single backslash, which can't be told from an escape: dump without `-p` there.
//! 5. LMDB takes no empty keys, and keys of at most 511 bytes.

mod header;
mod line;
mod lines;
mod parser;
mod writer;

pub(crate) use header::Header;
pub(crate) use line::encode_print;
pub(crate) use parser::{Event, ParseError, Parser};
pub(crate) use writer::DumpWriter;

/// How bytes are written in a dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// Two lowercase hex digits a byte.
    ByteValue,
    /// Printable ASCII as it is; any other byte, and the backslash, as a backslash and two lowercase hex digits.
    Print,
}

impl Format {
    /// Its name in a header.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::ByteValue => "bytevalue",
            Format::Print => "print",
        }
    }
}
