//! Keys and values that say what they are: whoever reads a value knows which commit wrote it, where it belongs, and whether a byte of
//! it is wrong.
//!
//! A value: number of the commit (4 bytes), key (2), writer (1), map (1), its own length (4), then bytes that follow from these.

use std::fmt;

/// The maps that writers share, each with keys of its own.
pub(super) const MAPS: u8 = 3;
/// The map that stands for the keyspace that a writer has for itself.
pub(super) const OWN: u8 = MAPS;

const HEAD: usize = 12;
/// Shorter values are not made.
pub(super) const LEN_MIN: u32 = HEAD as u32;

/// The commit that wrote a value, and how long it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub(super) number: u32,
    pub(super) len: u32,
}

/// Where a value belongs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) writer: u8,
    pub(super) map: u8,
    pub(super) key: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} of writer {} in {}", self.key, self.writer, keyspace(self.writer, self.map))
    }
}

/// The keyspace's name.
pub(super) fn keyspace(writer: u8, map: u8) -> String {
    if map == OWN { format!("own-{writer:02}") } else { format!("map-{map}") }
}

/// The map behind a keyspace's name, if it is one.
pub(super) fn map_of(name: &str) -> Option<u8> {
    if name.starts_with("own-") {
        return Some(OWN);
    }
    name.strip_prefix("map-")?.parse().ok().filter(|&map| map < MAPS)
}

/// The key's bytes; some are long, so that there are few in a page.
pub(super) fn key(writer: u8, key: u16) -> Vec<u8> {
    let mut bytes = format!("{writer:02}/{key:05}").into_bytes();
    if key.is_multiple_of(7) {
        bytes.resize(120, b'.');
    }
    bytes
}

/// The writer and the number in a key's bytes.
pub(super) fn parse_key(bytes: &[u8]) -> Option<(u8, u16)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (writer, number) = (text.get(..2)?.parse().ok()?, text.get(3..8)?.parse().ok()?);
    (key(writer, number) == bytes).then_some((writer, number))
}

/// The bytes of a value.
pub(super) fn value(place: Place, stamp: Stamp) -> Vec<u8> {
    let len = stamp.len.max(LEN_MIN) as usize;
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend(stamp.number.to_le_bytes());
    bytes.extend(place.key.to_le_bytes());
    bytes.extend([place.writer, place.map]);
    bytes.extend(stamp.len.to_le_bytes());
    let mut state =
        u64::from(stamp.number) << 32 ^ u64::from(place.key) << 16 ^ u64::from(place.writer) << 8 ^ u64::from(place.map);
    while bytes.len() < len {
        // splitmix64
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// What a value that was found says; an error where it does not belong there, or a byte is wrong.
pub(super) fn read(place: Place, bytes: &[u8]) -> Result<Stamp, String> {
    let number = bytes.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let len = u32::try_from(bytes.len()).ok();
    let (Some(number), Some(len)) = (number, len) else {
        return Err(format!("{place} has a value of {} bytes, which was never written", bytes.len()));
    };
    let stamp = Stamp { number, len };
    let written = value(place, stamp);
    match bytes.iter().zip(&written).position(|(found, written)| found != written) {
        None if bytes.len() == written.len() => Ok(stamp),
        None => Err(format!("{place} has a value of {} bytes, which was never written", bytes.len())),
        Some(at) => Err(format!("{place}: byte {at} of {len} is wrong: no commit has written this value there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_back_and_belong_to_one_place() {
        let place = Place { writer: 3, map: 1, key: 777 };
        for len in [12, 13, 100, 70_000] {
            let stamp = Stamp { number: 9, len };
            let mut bytes = value(place, stamp);
            assert_eq!(read(place, &bytes), Ok(stamp));
            for other in [Place { writer: 2, ..place }, Place { map: 0, ..place }, Place { key: 778, ..place }] {
                assert!(read(other, &bytes).is_err());
            }
            *bytes.last_mut().unwrap() ^= 4;
            assert!(read(place, &bytes).is_err(), "{len}");
            bytes.pop();
            assert!(read(place, &bytes).is_err());
        }
        assert!(read(place, b"abc").is_err());
    }

    #[test]
    fn keys_and_names_are_read_back() {
        for number in [0, 1, 7, 777, 65535] {
            assert_eq!(parse_key(&key(4, number)), Some((4, number)));
        }
        assert!(key(1, 5) < key(1, 6) && key(1, 6) < key(1, 7) && key(1, 7) < key(1, 8));
        assert_eq!(parse_key(b"00/00007"), None, "not as long as it is written");
        assert_eq!(map_of(&keyspace(1, 2)), Some(2));
        assert_eq!(map_of(&keyspace(1, OWN)), Some(OWN));
        assert_eq!(map_of("map-9"), None);
    }
}
