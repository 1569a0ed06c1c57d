//! What to do after the kernel has moved some of a transfer's bytes: pure arithmetic, for blocking calls and rings alike.
//!
//! 1. A transfer goes on where the kernel stopped, at a multiple of what the file needs; bytes of a write that lie beyond that
//!    are written again, with the same contents.
//! 2. Every step but the last moves at least one such unit, so a transfer ends.
//! 3. A read that ends in the middle of a unit, or moves nothing, has met the file's end.

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Read,
    Write,
}

/// What comes next. Positions are bytes from the transfer's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Every byte has been moved.
    Finished,
    /// Go on from here.
    Continue(u64),
    /// The file ends here.
    FileEnds(u64),
    /// A write that moves nothing, and no error to say why.
    Stuck,
}

/// After a call that began at `done` and moved `moved` bytes of a transfer of `total`; the file takes multiples of `unit`.
pub(super) fn after(direction: Direction, unit: usize, done: u64, total: u64, moved: usize) -> Next {
    let reached = done + moved as u64;
    if reached >= total {
        return Next::Finished;
    }
    let whole = reached - reached % unit as u64;
    match direction {
        Direction::Read if moved == 0 || whole < reached => Next::FileEnds(reached),
        Direction::Read => Next::Continue(reached),
        Direction::Write if whole > done => Next::Continue(whole),
        Direction::Write => Next::Stuck,
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{Read, Write};
    use super::*;

    #[test]
    fn each_case() {
        for (direction, unit, done, total, moved, next) in [
            (Read, 512, 0, 8192, 8192, Next::Finished),
            (Read, 512, 4096, 8192, 4096, Next::Finished),
            (Read, 512, 0, 8192, 4096, Next::Continue(4096)),
            (Read, 512, 4096, 8192, 0, Next::FileEnds(4096)),
            (Read, 512, 4096, 8192, 100, Next::FileEnds(4196)),
            (Read, 1, 0, 8192, 100, Next::Continue(100)),
            (Write, 512, 0, 8192, 8192, Next::Finished),
            (Write, 512, 0, 8192, 1000, Next::Continue(512)),
            (Write, 4096, 0, 8192, 4096, Next::Continue(4096)),
            (Write, 4096, 4096, 12288, 4095, Next::Stuck),
            (Write, 4096, 4096, 8192, 0, Next::Stuck),
            (Write, 1, 0, 8192, 1, Next::Continue(1)),
        ] {
            assert_eq!(after(direction, unit, done, total, moved), next, "{direction:?} {unit} {done} {total} {moved}");
        }
    }

    #[test]
    fn every_transfer_ends() {
        for direction in [Read, Write] {
            for unit in [1, 512, 4096] {
                for moved in [0, 1, 511, 512, 4095, 4096, 5000] {
                    let mut done = 0;
                    while let Next::Continue(next) = after(direction, unit, done, 65536, moved) {
                        assert!(next > done && next.is_multiple_of(unit as u64));
                        done = next;
                    }
                }
            }
        }
    }
}
