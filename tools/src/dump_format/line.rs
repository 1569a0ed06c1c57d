//! The bytes of one key or value as the text of one line, and back. Encoder and decoder side by side.

use super::Format;

/// What is wrong in a line, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    /// The byte of the line, counted from 1.
    pub(super) column: usize,
    /// What was found and what was expected, in words.
    pub(super) what: String,
}

/// Appends `bytes` to `out`, without the space before and the line's end behind.
pub(super) fn encode(format: Format, bytes: &[u8], out: &mut Vec<u8>) {
    match format {
        Format::ByteValue => bytes.iter().for_each(|&byte| push_hex(byte, out)),
        Format::Print => encode_print(bytes, out),
    }
}

/// Appends `bytes` to `out` as `format=print` has them.
pub(crate) fn encode_print(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b' '..=b'~' if byte != b'\\' => out.push(byte),
            _ => {
                out.push(b'\\');
                push_hex(byte, out);
            }
        }
    }
}

fn push_hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

/// Turns `line`, from byte `from` on, into the bytes that it stands for, in place.
pub(super) fn decode(format: Format, line: &mut Vec<u8>, from: usize) -> Result<(), Fault> {
    match format {
        Format::ByteValue => decode_hex(line, from),
        Format::Print => decode_print(line, from),
    }
}

fn decode_hex(line: &mut Vec<u8>, from: usize) -> Result<(), Fault> {
    let digits = line.len() - from;
    for pair in 0..digits / 2 {
        let at = from + 2 * pair;
        line[pair] = digit(line, at)? << 4 | digit(line, at + 1)?;
    }
    if digits % 2 == 1 {
        digit(line, line.len() - 1)?;
        return Err(Fault { column: line.len(), what: "an odd number of hex digits: the last one has no second".into() });
    }
    line.truncate(digits / 2);
    Ok(())
}

fn decode_print(line: &mut Vec<u8>, from: usize) -> Result<(), Fault> {
    let (mut read, mut written) = (from, 0);
    while read < line.len() {
        let (byte, taken) = match line[read] {
            b'\\' if line.get(read + 1) == Some(&b'\\') => (b'\\', 2),
            b'\\' => (escaped(line, read)?, 3),
            byte => (byte, 1),
        };
        line[written] = byte;
        read += taken;
        written += 1;
    }
    line.truncate(written);
    Ok(())
}

/// The byte that a backslash and two hex digits stand for.
fn escaped(line: &[u8], at: usize) -> Result<u8, Fault> {
    let value = || Ok::<u8, Fault>(digit(line, at + 1)? << 4 | digit(line, at + 2)?);
    value().map_err(|_| Fault {
        column: at + 1,
        what: "a backslash must be followed by another one or by two hex digits \
               (mdb_dump -p writes single backslashes: dump without -p there)"
            .into(),
    })
}

fn digit(line: &[u8], at: usize) -> Result<u8, Fault> {
    let fault = |what| Fault { column: at + 1, what };
    let byte = *line.get(at).ok_or_else(|| fault("the line ends where a hex digit should be".into()))?;
    let value = char::from(byte).to_digit(16).ok_or_else(|| fault(format!("'{}' is no hex digit", byte.escape_ascii())))?;
    Ok(value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(format: Format, text: &str) -> Result<Vec<u8>, (usize, String)> {
        let mut line = text.as_bytes().to_vec();
        decode(format, &mut line, 1).map(|()| line).map_err(|fault| (fault.column, fault.what))
    }

    fn encoded(format: Format, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        encode(format, bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn bytes_look_as_the_other_programs_write_them() {
        let bytes = b"\0\xff\n~ \\\r";
        assert_eq!(encoded(Format::ByteValue, bytes), "00ff0a7e205c0d");
        assert_eq!(encoded(Format::Print, bytes), "\\00\\ff\\0a~ \\5c\\0d");
        assert_eq!(encoded(Format::Print, b""), "");
    }

    #[test]
    fn uppercase_digits_doubled_backslashes_and_raw_bytes_are_taken() {
        assert_eq!(decoded(Format::ByteValue, " 6A6a"), Ok(b"jj".to_vec()));
        assert_eq!(decoded(Format::Print, " \\FF\u{e9}\\\\5c"), Ok(b"\xff\xc3\xa9\\5c".to_vec()));
    }

    #[test]
    fn faults_name_their_column() {
        let hex = |text| decoded(Format::ByteValue, text).unwrap_err();
        assert_eq!(hex(" 616"), (4, "an odd number of hex digits: the last one has no second".into()));
        assert_eq!(hex(" 61zz"), (4, "'z' is no hex digit".into()));
        assert_eq!(hex(" 61\r"), (4, "'\\r' is no hex digit".into()));
        for (text, column) in [(" ab\\", 4), (" ab\\4", 4), (" a\\g1", 3), (" \\\\\\", 4)] {
            let (at, what) = decoded(Format::Print, text).unwrap_err();
            assert_eq!(at, column, "{text}");
            assert!(what.starts_with("a backslash must be followed"), "{what}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>, print: bool) {
            let format = if print { Format::Print } else { Format::ByteValue };
            let text = encoded(format, &bytes);
            prop_assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert_eq!(decoded(format, &format!(" {text}")), Ok(bytes));
        }
    }
}
