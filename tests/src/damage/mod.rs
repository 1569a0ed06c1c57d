//! Damage done to a database's files on purpose, and judged: nothing may go unnoticed.
//!
//! Reading order: [`layout`] (what stands where, read by `docs/format.md` alone), [`fixture`] (small databases with everything in them,
//! closed or crashed), [`place`] (a block that is to be damaged, and what is due then), [`judge`] (opens, reads and verifies a damaged
//! database, and says what came of it), [`ways`] (the ways in which a block is damaged), [`tally`] (what came of many).

pub mod fixture;
pub mod judge;
pub mod layout;
pub mod log;
pub mod place;
pub mod tally;
pub mod ways;
