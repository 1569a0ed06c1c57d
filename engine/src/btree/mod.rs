//! The B+tree: pages as sorted nodes.
