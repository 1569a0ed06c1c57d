//! Writing dumps.

use super::{Format, line};
use std::io::{self, Write};

/// Writes databases one after the other, each as `begin`, its entries, `end`.
pub(crate) struct DumpWriter<W> {
    out: W,
    format: Format,
    mapsize: Option<u64>,
    line: Vec<u8>,
}

impl<W: Write> DumpWriter<W> {
    /// `mapsize` in bytes stands in every header: `mdb_load` needs it beyond its default map size, `db_load` refuses it.
    pub(crate) fn new(out: W, format: Format, mapsize: Option<u64>) -> DumpWriter<W> {
        DumpWriter { out, format, mapsize, line: Vec::new() }
    }

    /// The header of a database: of that name, or the unnamed one.
    pub(crate) fn begin(&mut self, database: Option<&str>) -> io::Result<()> {
        writeln!(self.out, "VERSION=3\nformat={}", self.format.name())?;
        if let Some(name) = database {
            // Other bytes than the backslash are read as they are by all.
            writeln!(self.out, "database={}", name.replace('\\', "\\5c"))?;
        }
        writeln!(self.out, "type=btree")?;
        if let Some(bytes) = self.mapsize {
            writeln!(self.out, "mapsize={bytes}")?;
        }
        writeln!(self.out, "HEADER=END")
    }

    /// An entry.
    pub(crate) fn entry(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.line.clear();
        for bytes in [key, value] {
            self.line.push(b' ');
            line::encode(self.format, bytes, &mut self.line);
            self.line.push(b'\n');
        }
        self.out.write_all(&self.line)
    }

    /// The end of a database.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        writeln!(self.out, "DATA=END")
    }

    /// Hands on what is buffered, and gives the destination back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_what_the_other_programs_read() {
        let mut writer = DumpWriter::new(Vec::new(), Format::Print, Some(1 << 20));
        writer.begin(Some("a\\b")).unwrap();
        writer.entry(b"k\\", b"").unwrap();
        writer.end().unwrap();
        writer.mapsize = None;
        writer.format = Format::ByteValue;
        writer.begin(None).unwrap();
        writer.entry(b"", b"\xff").unwrap();
        writer.end().unwrap();
        let expected = "VERSION=3\nformat=print\ndatabase=a\\5cb\ntype=btree\nmapsize=1048576\nHEADER=END\n k\\5c\n \nDATA=END\n\
                        VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n \n ff\nDATA=END\n";
        assert_eq!(String::from_utf8(writer.finish().unwrap()).unwrap(), expected);
    }
}
