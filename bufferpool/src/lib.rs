//! The buffer pool: the engine's own virtual memory. It knows pages, not keys.
