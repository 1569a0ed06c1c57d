//! The key of an entry of a copied leaf, in memory that is used again.
//!
//! What the keys of a leaf begin with is put there once for the leaf; for each key only its suffix follows. Most suffixes are short: they
//! are moved with one load and one store of fixed length, which copies a little of what stands behind them, too.

use super::layout::HEAD_LEN;

/// Bytes that are moved at once.
const CHUNK: usize = 16;

/// See the module. It goes with one copy of a leaf, and is begun anew with each leaf that is copied there.
#[derive(Clone, Debug, Default)]
pub struct KeyBuf {
    /// The prefix, a suffix, and room for what is moved in vain.
    bytes: Vec<u8>,
    prefix: usize,
    len: usize,
}

impl KeyBuf {
    /// Without a key: it is empty.
    pub fn new() -> KeyBuf {
        KeyBuf::default()
    }

    /// The key that was put here last.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// All keys from now on begin with `prefix`.
    pub(super) fn begin(&mut self, prefix: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(prefix);
        (self.prefix, self.len) = (prefix.len(), prefix.len());
    }

    /// Puts the key here whose suffix has `suffix_len` bytes: the head, as far as that goes, then what stands in `page` at `rest_at`. False:
    /// that passes the page's end, and what is here is no key.
    #[inline]
    pub(super) fn put(&mut self, suffix_len: usize, head: u32, page: &[u8], rest_at: usize) -> bool {
        self.len = self.prefix + suffix_len;
        let room = self.len.max(self.prefix + HEAD_LEN) + CHUNK;
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        let suffix = &mut self.bytes[self.prefix..];
        suffix[..HEAD_LEN].copy_from_slice(&head.to_be_bytes());
        if suffix_len <= HEAD_LEN {
            return true;
        }
        let (to, rest_len) = (&mut suffix[HEAD_LEN..], suffix_len - HEAD_LEN);
        let Some(from) = page.get(rest_at..) else { return false };
        if rest_len <= CHUNK
            && let (Some(to), Some(from)) = (to.first_chunk_mut::<CHUNK>(), from.first_chunk())
        {
            *to = *from;
            return true;
        }
        let Some(from) = from.get(..rest_len) else { return false };
        to[..rest_len].copy_from_slice(from);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_are_put_together() {
        let page: Vec<u8> = (0..100).collect();
        let mut key = KeyBuf::new();
        assert_eq!(key.key(), b"");
        for prefix in [&b""[..], b"p", &[b'q'; 40]] {
            key.begin(prefix);
            assert_eq!(key.key(), prefix);
            // From long to short and back, so that nothing of a longer one stays.
            for suffix_len in (0..60usize).rev().chain(0..60) {
                for rest_at in [0, 7, 99 - 16, 99 - 15, 100 - suffix_len.saturating_sub(HEAD_LEN)] {
                    let rest = suffix_len.saturating_sub(HEAD_LEN);
                    let fits = rest_at + rest <= page.len();
                    assert_eq!(key.put(suffix_len, 0x6162_6364, &page, rest_at), fits, "{suffix_len} {rest_at}");
                    if fits {
                        let expected = [prefix, &b"abcd"[..suffix_len.min(HEAD_LEN)], &page[rest_at..rest_at + rest]].concat();
                        assert_eq!(key.key(), expected, "{suffix_len} {rest_at}");
                    }
                }
            }
        }
        assert!(!key.put(5, 0, &page, 101));
    }
}
