//! What a power cut may leave on a disk.
//!
//! Cut before step *n* of a recording: of each flush that was confirmed before, all is there that had been confirmed when it came. Of all
//! other writes that had come, confirmed or not, each 512-byte (or 4096-byte) sector is there or not, on its own. That also covers any
//! order in which a disk may have written them: of several writes to a sector one is the last that took effect, and which one is free.
//! Nothing that came later is there.

use super::super::journal::Event;
use super::image::Image;
use super::recording::{Cache, Recording, Step};
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

/// Cuts of a recording, in its order: where much is in doubt, and soon after something was confirmed.
pub(super) fn cuts(recording: &Recording, from: usize, count: usize, seed: u64) -> Vec<Cut> {
    let end = recording.steps.len();
    let mut cache = Cache::default();
    // Cuts before each step: those right after a confirmation, by whether anything is in doubt, and all by how much is.
    let (mut confirmed, mut doubtful, mut weighted) = (Vec::new(), Vec::new(), Vec::new());
    for (n, step) in recording.steps.iter().enumerate() {
        cache.take(n, step);
        let (cut, in_doubt) = (n + 1, cache.in_doubt.len());
        if cut < from {
            continue;
        }
        weighted.extend(std::iter::repeat_n(cut, in_doubt.min(12)));
        if is_confirmation(step) {
            confirmed.push(cut);
            doubtful.extend((in_doubt > 0).then_some(cut));
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xC475);
    let mut cuts: Vec<Cut> = (0..count)
        .map(|_| {
            let at = match rng.random_range(0..8) {
                0 => confirmed.choose(&mut rng),
                1..4 => doubtful.choose(&mut rng),
                4..7 => weighted.choose(&mut rng),
                _ => None,
            };
            let at = at.copied().unwrap_or_else(|| rng.random_range(from..=end.max(from)));
            Cut { at: at.min(end), seed: rng.random() }
        })
        .collect();
    cuts.sort();
    cuts
}

fn is_confirmation(step: &Step) -> bool {
    let Step::Told(event) = step else { return false };
    matches!(event, Event::Ended { immediate: true, .. } | Event::BarrierEnded { .. } | Event::Closed | Event::Opened { .. })
}

/// Builds the images of cuts that come in the recording's order.
pub(super) struct Builder<'a> {
    recording: &'a Recording,
    /// All steps before this one are taken.
    done: usize,
    cache: Cache,
    durable: Image,
    sector: usize,
    /// The disk confirms this many flushes without doing them: a disk that lies, for a test of the test.
    deaf: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(recording: &'a Recording, sector: usize, deaf: usize) -> Builder<'a> {
        Builder { recording, done: 0, cache: Cache::default(), durable: recording.base.clone(), sector, deaf }
    }

    /// The image after a cut, and how many writes were in doubt; it comes no earlier than the one before.
    pub(super) fn build(&mut self, cut: Cut) -> (Image, usize) {
        let obeyed = if self.deaf == 0 { usize::MAX } else { self.start_over(cut) };
        for n in self.done..cut.at {
            let step = &self.recording.steps[n];
            if n < obeyed || !matches!(step, Step::Flushed(_)) {
                let durable = self.cache.take(n, step);
                durable.into_iter().for_each(|write| self.make_durable(write));
            }
        }
        self.done = cut.at;
        let mut image = self.durable.clone();
        let writes: Vec<_> = self.cache.in_doubt.iter().filter_map(|&n| self.recording.write(n)).collect();
        leave(&mut image, &writes, self.sector, &mut ChaCha8Rng::seed_from_u64(cut.seed));
        (image, writes.len())
    }

    /// Of a deaf disk: the first flush that it does not do.
    fn start_over(&mut self, cut: Cut) -> usize {
        *self = Builder::new(self.recording, self.sector, self.deaf);
        let flushes =
            self.recording.steps[..cut.at].iter().enumerate().rev().filter(|(_, step)| matches!(step, Step::Flushed(_)));
        flushes.map(|(n, _)| n).nth(self.deaf - 1).unwrap_or(0)
    }

    fn make_durable(&mut self, write: usize) {
        let Some((offset, bytes)) = self.recording.write(write) else { return };
        // An older write to the same place that is still in doubt can't come after this one any more.
        let end = offset + bytes.len() as u64;
        let older = self.cache.in_doubt.range(..write).copied();
        let older: Vec<usize> =
            older.filter(|&n| self.recording.write(n).is_some_and(|(at, b)| at < end && offset < at + b.len() as u64)).collect();
        for n in older {
            self.cache.in_doubt.remove(&n);
            if let Some((at, bytes)) = self.recording.write(n) {
                self.durable.write(at, bytes);
            }
        }
        self.durable.write(offset, bytes);
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
    use super::*;
    use std::collections::BTreeSet;

    fn write(block: u64, byte: u8) -> Step {
        Step::Write { offset: block * 4096, bytes: vec![byte; 4096].into() }
    }

    /// Blocks 0 and 1 are written and flushed (step 5); then blocks 0, 2, and 0 again are written, and flushed but for the last.
    fn recording() -> Recording {
        let steps = vec![
            write(0, 1),
            write(1, 1),
            Step::Written(1),
            Step::Written(0),
            Step::Flush,
            Step::Flushed(4),
            Step::Told(Event::Closed),
            write(0, 2),
            Step::Written(7),
            write(2, 2),
            Step::Written(9),
            Step::Flush,
            write(0, 3),
            Step::Written(12),
            Step::Flushed(11),
            write(3, 4),
        ];
        Recording { base: Image::new(1 << 20), before: Vec::new(), steps }
    }

    /// What every image of a cut holds, sector by sector of the first blocks.
    fn seen(at: usize, deaf: usize) -> BTreeSet<Vec<u8>> {
        let recording = recording();
        let images = (0..3000).map(|seed| {
            let image = Builder::new(&recording, 512, deaf).build(Cut { at, seed }).0;
            image.read(0, 4 * 4096).chunks(512).map(|sector| sector[0]).collect::<Vec<u8>>()
        });
        images.collect()
    }

    #[test]
    fn what_was_flushed_stays_and_nothing_comes_from_later() {
        for sectors in seen(14, 0) {
            assert!(sectors[..8].iter().all(|b| (1..=3).contains(b)), "{sectors:?}");
            assert!(sectors[8..16].iter().all(|b| *b == 1), "{sectors:?}");
            assert!(sectors[16..24].iter().all(|b| [0, 2].contains(b)), "{sectors:?}");
            assert!(sectors[24..].iter().all(|b| *b == 0), "{sectors:?}");
        }
        assert_eq!(seen(6, 0).len(), 1, "nothing is in doubt right after a flush");
        assert!(seen(5, 0).len() > 20, "all is, until it is confirmed");
        let flushed = seen(15, 0);
        assert!(flushed.iter().all(|s| s[..8].iter().all(|b| [2, 3].contains(b)) && s[16..24] == [2; 8]), "{flushed:?}");
        assert!(flushed.len() > 20, "what came after the flush is in doubt");
    }

    #[test]
    fn what_was_not_flushed_is_there_or_not_in_every_way() {
        let seen = seen(14, 0);
        let whole = |first: u8, third: u8| [[first; 8], [1; 8], [third; 8], [0; 8]].concat();
        for image in [whole(1, 0), whole(2, 0), whole(3, 0), whole(1, 2), whole(2, 2), whole(3, 2)] {
            assert!(seen.contains(&image), "{image:?}");
        }
        assert!(seen.iter().any(|s| s[..8].contains(&1) && s[..8].contains(&2) && s[..8].contains(&3)), "a sector of each");
    }

    #[test]
    fn a_deaf_disk_forgets_what_was_flushed() {
        assert!(seen(7, 1).iter().any(|s| s[0] == 0));
        assert!(seen(15, 1).iter().all(|s| s[8] == 1), "only the last flush");
        assert!(seen(15, 1).iter().any(|s| s[16] == 0));
    }

    #[test]
    fn cuts_come_in_order_and_after_the_beginning() {
        let cuts = cuts(&recording(), 3, 200, 9);
        assert_eq!(cuts.len(), 200);
        assert!(cuts.is_sorted() && cuts.iter().all(|c| (3..=16).contains(&c.at)));
        let at = |n| cuts.iter().filter(|c| c.at == n).count();
        assert!(at(7) > at(6), "right after what was told as closed");
    }

    #[test]
    fn images_in_order_are_those_built_alone() {
        let recording = recording();
        for deaf in [0, 1] {
            let mut builder = Builder::new(&recording, 512, deaf);
            for cut in cuts(&recording, 0, 60, 1) {
                let alone = Builder::new(&recording, 512, deaf).build(cut).0;
                assert_eq!(builder.build(cut).0.read(0, 1 << 16), alone.read(0, 1 << 16));
            }
        }
    }
}
