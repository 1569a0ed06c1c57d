//! One logical, redo-only log. It knows records, not keys.
