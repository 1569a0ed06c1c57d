//! Ashlar: an embedded, transactional, ordered key-value storage engine for Linux that owns its I/O.

pub mod btree;
