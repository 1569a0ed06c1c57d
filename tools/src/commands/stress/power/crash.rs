//! What a power cut may leave on a disk.
//!
//! Cut after step *n* of a recording: everything up to the last flush before *n* is there. Of the writes between that flush and *n*, each
//! 512-byte (or 4096-byte) sector is there or not, on its own. That also covers any order in which a disk may have written them: of
//! several writes to a sector one is the last that took effect, and which one is free. Nothing from after *n* is there.

use super::image::Image;
use super::recording::{Recording, Step};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Where the power is cut, and what decides what is left then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Cut {
    /// Before this step.
    pub(super) at: usize,
    pub(super) seed: u64,
}

/// How what was not flushed is dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// All of it is gone.
    Gone,
    /// All of it is there.
    There,
    /// Each write is there with this chance, of 100.
    Some(u32),
    /// Each sector is there with this chance, of 100.
    Torn(u32),
    /// All but one write are there.
    AllButOne,
    /// One write alone is there.
    OneAlone,
    /// The newer half is there and the older is not.
    NewerHalf,
}

impl Fate {
    fn draw(rng: &mut ChaCha8Rng) -> Fate {
        match rng.random_range(0..14) {
            0 | 1 => Fate::Gone,
            2 => Fate::There,
            3..6 => Fate::Some([10, 50, 90][rng.random_range(0..3)]),
            6..9 => Fate::Torn([20, 50, 80][rng.random_range(0..3)]),
            9 | 10 => Fate::AllButOne,
            11 | 12 => Fate::OneAlone,
            _ => Fate::NewerHalf,
        }
    }
}

/// Cuts of a recording, in its order: many soon after a commit was confirmed, many right before a flush, when most is in doubt.
pub(super) fn cuts(recording: &Recording, from: usize, count: usize, seed: u64) -> Vec<Cut> {
    use super::super::journal::Event;
    let confirmed = recording.positions(|step| {
        matches!(
            step,
            Step::Told(Event::Ended { immediate: true, .. } | Event::BarrierEnded { .. } | Event::Closed | Event::Opened { .. })
        )
    });
    let flushes = recording.positions(|step| matches!(step, Step::Flush));
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xC475);
    let end = recording.steps.len();
    let mut cuts: Vec<Cut> = (0..count)
        .map(|_| {
            let at = match rng.random_range(0..8) {
                0..4 => confirmed.choose(&mut rng).map(|n| n + 1),
                4..6 => flushes.choose(&mut rng).copied(),
                _ => None,
            };
            let at = at.unwrap_or_else(|| rng.random_range(from..=end.max(from)));
            Cut { at: at.clamp(from, end.max(from)), seed: rng.random() }
        })
        .collect();
    cuts.sort();
    cuts
}

/// Builds the images of cuts that come in the recording's order.
pub(super) struct Builder<'a> {
    recording: &'a Recording,
    /// All steps before this one are in `durable`.
    done: usize,
    durable: Image,
    sector: usize,
    /// The disk confirms this many flushes without doing them: a disk that lies, for a test of the test.
    deaf: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(recording: &'a Recording, sector: usize, deaf: usize) -> Builder<'a> {
        Builder { recording, done: 0, durable: recording.base.clone(), sector, deaf }
    }

    /// The image after a cut; it comes no earlier than the one before.
    pub(super) fn build(&mut self, cut: Cut) -> Image {
        let steps = &self.recording.steps[..cut.at];
        let flushes = steps.iter().enumerate().rev().filter(|(_, step)| matches!(step, Step::Flush));
        let flush = flushes.map(|(n, _)| n).nth(self.deaf).unwrap_or(0).max(self.done);
        for step in &steps[self.done..flush] {
            if let Step::Write { offset, bytes } = step {
                self.durable.write(*offset, bytes);
            }
        }
        self.done = flush;
        let mut image = self.durable.clone();
        let writes = steps[flush..].iter().filter_map(|step| match step {
            Step::Write { offset, bytes } => Some((*offset, &**bytes)),
            _ => None,
        });
        leave(&mut image, &writes.collect::<Vec<_>>(), self.sector, &mut ChaCha8Rng::seed_from_u64(cut.seed));
        image
    }
}

/// Applies what is left of writes that were not flushed.
fn leave(image: &mut Image, writes: &[(u64, &[u8])], sector: usize, rng: &mut ChaCha8Rng) {
    let fate = Fate::draw(rng);
    let chosen = rng.random_range(0..writes.len().max(1));
    for (n, (offset, bytes)) in writes.iter().enumerate() {
        let there = match fate {
            Fate::Gone => false,
            Fate::There => true,
            Fate::Some(chance) => rng.random_range(0..100) < chance,
            Fate::AllButOne => n != chosen,
            Fate::OneAlone => n == chosen,
            Fate::NewerHalf => n >= writes.len() / 2,
            Fate::Torn(chance) => {
                for (at, part) in (*offset..).step_by(sector).zip(bytes.chunks(sector)) {
                    if rng.random_range(0..100) < chance {
                        image.write(at, part);
                    }
                }
                continue;
            }
        };
        if there {
            image.write(*offset, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::journal::Event;
    use super::*;
    use std::collections::BTreeSet;

    fn write(block: u64, byte: u8) -> Step {
        Step::Write { offset: block * 4096, bytes: vec![byte; 4096].into() }
    }

    fn recording() -> Recording {
        let told = Step::Told(Event::Closing);
        let steps =
            vec![write(0, 1), write(1, 1), Step::Flush, told, write(0, 2), write(2, 2), write(0, 3), Step::Flush, write(3, 4)];
        Recording { base: Image::new(1 << 20), steps }
    }

    /// What every image of a cut holds, sector by sector of the first blocks.
    fn seen(at: usize, deaf: usize) -> BTreeSet<Vec<u8>> {
        let recording = recording();
        let images = (0..3000).map(|seed| {
            let image = Builder::new(&recording, 512, deaf).build(Cut { at, seed });
            image.read(0, 4 * 4096).chunks(512).map(|sector| sector[0]).collect::<Vec<u8>>()
        });
        images.collect()
    }

    #[test]
    fn what_was_flushed_stays_and_nothing_comes_from_later() {
        for sectors in seen(7, 0) {
            assert!(sectors[..8].iter().all(|b| (1..=3).contains(b)), "{sectors:?}");
            assert!(sectors[8..16].iter().all(|b| *b == 1), "{sectors:?}");
            assert!(sectors[16..24].iter().all(|b| [0, 2].contains(b)), "{sectors:?}");
            assert!(sectors[24..].iter().all(|b| *b == 0), "{sectors:?}");
        }
        assert_eq!(seen(3, 0).len(), 1, "nothing is in doubt right after a flush");
        assert!(seen(8, 0).iter().all(|s| s[..8] == [3; 8] && s[16..24] == [2; 8]));
    }

    #[test]
    fn what_was_not_flushed_is_there_or_not_in_every_way() {
        let seen = seen(7, 0);
        let whole = |first: u8, third: u8| [[first; 8], [1; 8], [third; 8], [0; 8]].concat();
        for image in [whole(1, 0), whole(2, 0), whole(3, 0), whole(1, 2), whole(2, 2), whole(3, 2)] {
            assert!(seen.contains(&image), "{image:?}");
        }
        assert!(seen.iter().any(|s| s[..8].contains(&1) && s[..8].contains(&2) && s[..8].contains(&3)), "a sector of each");
    }

    #[test]
    fn a_deaf_disk_forgets_what_was_flushed() {
        assert!(seen(3, 1).iter().any(|s| s[0] == 0));
    }

    #[test]
    fn cuts_come_in_order_and_after_the_beginning() {
        let cuts = cuts(&recording(), 3, 50, 9);
        assert_eq!(cuts.len(), 50);
        assert!(cuts.is_sorted() && cuts.iter().all(|c| (3..=9).contains(&c.at)));
    }

    #[test]
    fn images_in_order_are_those_built_alone() {
        let recording = recording();
        let mut builder = Builder::new(&recording, 512, 0);
        for cut in cuts(&recording, 0, 40, 1) {
            let alone = Builder::new(&recording, 512, 0).build(cut);
            assert_eq!(builder.build(cut).read(0, 1 << 16), alone.read(0, 1 << 16));
        }
    }
}
