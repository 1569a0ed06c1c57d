//! Keys and values on the command line and in results.

use crate::dump_format::encode_print;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// How keys and values are given and shown.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct HexArg {
    /// Keys and values are given and shown as hex digits
    #[arg(long)]
    pub(crate) hex: bool,
}

impl HexArg {
    /// The bytes that an argument stands for: those given, or what their hex digits say.
    pub(crate) fn parse(self, what: &str, given: &OsStr) -> Result<Vec<u8>> {
        if !self.hex {
            return Ok(given.as_bytes().to_vec());
        }
        from_hex(given.as_bytes()).ok_or_else(|| {
            Error::Usage(format!(
                "the {what} \"{}\" is not an even number of hex digits, as --hex wants",
                given.as_bytes().escape_ascii()
            ))
        })
    }

    /// As text for people: printable ASCII as it is, `\xx` for the rest and the backslash; or hex.
    pub(crate) fn show(self, bytes: &[u8]) -> String {
        if self.hex {
            return to_hex(bytes);
        }
        let mut text = Vec::with_capacity(bytes.len());
        encode_print(bytes, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// Puts bytes into an object: under `name` if they are text, else under `name_hex`; with `--hex` always there.
    pub(crate) fn put(self, object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) if !self.hex => object.insert(name.into(), text.into()),
            _ => object.insert(format!("{name}_hex"), to_hex(bytes).into()),
        };
    }
}

/// Lowercase hex digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    let pairs = digits.len().is_multiple_of(2).then(|| digits.chunks_exact(2))?;
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: HexArg = HexArg { hex: false };
    const HEX: HexArg = HexArg { hex: true };

    #[test]
    fn arguments_are_bytes_or_hex() {
        assert_eq!(PLAIN.parse("key", OsStr::from_bytes(b"a\xff")).unwrap(), b"a\xff");
        assert_eq!(HEX.parse("key", OsStr::new("00fF")).unwrap(), b"\0\xff");
        assert_eq!(HEX.parse("key", OsStr::new("")).unwrap(), b"");
        for bad in ["0", "0g", "0x00"] {
            assert!(HEX.parse("key", OsStr::new(bad)).unwrap_err().to_string().starts_with("the key \"0"), "{bad}");
        }
    }

    #[test]
    fn bytes_are_shown_so_that_no_two_look_alike() {
        assert_eq!([PLAIN.show(b"a\\\n"), HEX.show(b"a\\\n")], ["a\\5c\\0a", "615c0a"]);
        let mut object = Map::new();
        PLAIN.put(&mut object, "key", "ä".as_bytes());
        PLAIN.put(&mut object, "value", b"\xff");
        HEX.put(&mut object, "key", b"a");
        assert_eq!(Value::from(object).to_string(), r#"{"key":"ä","key_hex":"61","value_hex":"ff"}"#);
    }
}
