//! Random keys, values and ranges that go where the code has its edges.

mod keys;
mod values;

pub use keys::Keys;
pub use values::{tag_of, value, value_len};
