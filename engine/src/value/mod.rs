//! Values as users get them, and the cells that stand for them in leaves.

pub(crate) mod cell;
pub(crate) mod fetch;
pub(crate) mod overflow;

use ashlar_disk::AlignedBuf;
use std::ops::Deref;
use std::sync::Arc;

/// Longest value that stands in a [`Value`] itself.
const SHORT_MAX: usize = 110;

/// A value that was read; derefs to `[u8]`. Short ones (up to 110 bytes) stand in the `Value` itself and need
/// no allocation; longer ones take one; those that the device wrote into an aligned buffer keep it, without another copy, and share it
/// with whoever reads them again.
pub struct Value(Repr);

enum Repr {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Heap(Box<[u8]>),
    Aligned { buf: Arc<AlignedBuf>, len: usize },
}

impl Value {
    /// A value with a copy of these bytes.
    pub fn copy_of(bytes: &[u8]) -> Value {
        if bytes.len() <= SHORT_MAX {
            let mut short = [0; SHORT_MAX];
            short[..bytes.len()].copy_from_slice(bytes);
            Value(Repr::Short { len: bytes.len() as u8, bytes: short })
        } else {
            Value(Repr::Heap(bytes.into()))
        }
    }

    pub(crate) fn from_vec(bytes: Vec<u8>) -> Value {
        Value(Repr::Heap(bytes.into_boxed_slice()))
    }

    /// The first `len` bytes of a buffer that a transfer filled.
    pub(crate) fn from_aligned(buf: Arc<AlignedBuf>, len: usize) -> Value {
        assert!(len <= buf.len());
        Value(Repr::Aligned { buf, len })
    }

    /// The bytes as a vector.
    pub fn to_vec(&self) -> Vec<u8> {
        self.deref().to_vec()
    }
}

impl Deref for Value {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(bytes) => bytes,
            Repr::Aligned { buf, len } => &buf[..*len],
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Clone for Value {
    fn clone(&self) -> Value {
        match &self.0 {
            Repr::Aligned { buf, len } => Value::from_aligned(buf.clone(), *len),
            _ => Value::copy_of(self),
        }
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Value {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Value {}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Vec<u8> {
        match value.0 {
            Repr::Heap(bytes) => bytes.into_vec(),
            _ => value.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_its_bytes_whatever_its_length() {
        for len in [0, 1, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, 5000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut buf = AlignedBuf::zeroed(len);
            buf[..len].copy_from_slice(&bytes);
            for value in [Value::copy_of(&bytes), Value::from_vec(bytes.clone()), Value::from_aligned(Arc::new(buf), len)] {
                assert_eq!(value, bytes);
                assert_eq!(value.clone(), bytes);
                assert_eq!(Vec::from(value), bytes);
            }
        }
    }
}
