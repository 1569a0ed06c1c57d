//! One file a subcommand: its arguments, and what it does.

pub(crate) mod compact;
pub(crate) mod del;
pub(crate) mod dump;
pub(crate) mod get;
pub(crate) mod load;
pub(crate) mod probe;
pub(crate) mod put;
pub(crate) mod salvage;
pub(crate) mod scan;
pub(crate) mod stat;
pub(crate) mod stress;
pub(crate) mod verify;
pub(crate) mod wal;
