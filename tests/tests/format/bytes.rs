//! Numbers, strings and checksums as `docs/format.md` writes them.

/// The crc32c (Castagnoli) of some bytes, bit by bit over a table of one byte.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut crc, mut bit) = (byte as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, &b| crc >> 8 ^ TABLE[(crc as u8 ^ b) as usize])
}

/// Two bytes at `at`, little-endian.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// Four bytes at `at`, little-endian.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Eight bytes at `at`, little-endian.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Bytes that are taken off the front.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }

    /// One byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    /// Four bytes, little-endian.
    pub(crate) fn u32(&mut self) -> u32 {
        u32_at(self.take(4), 0)
    }

    /// Eight bytes, little-endian.
    pub(crate) fn u64(&mut self) -> u64 {
        u64_at(self.take(8), 0)
    }

    /// A LEB128 varint.
    pub(crate) fn varint(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte();
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        unreachable!("a varint has at most ten bytes")
    }

    /// Length and bytes.
    pub(crate) fn string(&mut self) -> &'a [u8] {
        let len = self.varint() as usize;
        self.take(len)
    }
}
