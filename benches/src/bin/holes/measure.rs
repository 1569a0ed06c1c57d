//! What a file looks like: how long its free runs are, and how pages that follow each other in key order stand.

use crate::page_file::PageFile;
use ashlar_benches::Extent;
use serde::Serialize;

/// Classes of lengths: 1 block, 2, up to 4, up to 8 and so on; the last takes all longer ones.
const CLASSES: usize = 11;

/// Which share of the free blocks stands in runs of which length.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct FreeRuns([f64; CLASSES]);

impl FreeRuns {
    /// Those of a file.
    pub(crate) fn of(file: &PageFile) -> FreeRuns {
        let mut blocks = [0u64; CLASSES];
        let mut run = 0u64;
        for block in 0..=file.total() {
            if file.is_free(Extent { start: block, len: 1 }) {
                run += 1;
            } else if run > 0 {
                blocks[(run.next_power_of_two().trailing_zeros() as usize).min(CLASSES - 1)] += run;
                run = 0;
            }
        }
        let all: u64 = blocks.iter().sum();
        FreeRuns(blocks.map(|blocks| blocks as f64 / all.max(1) as f64))
    }

    /// The share that would have to change its class for the two to be the same.
    pub(crate) fn distance(&self, other: &FreeRuns) -> f64 {
        self.0.iter().zip(other.0).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
    }
}

/// Whether a file looks like itself some time ago: the histograms, one a turn, the newest last. It has been so for the second half of all turns.
pub(crate) fn is_steady(history: &[FreeRuns], tolerance: f64) -> bool {
    let Some((last, before)) = history.split_last() else { return false };
    history.len() >= TURNS_MIN && before[history.len() / 2 - 1..].iter().all(|then| then.distance(last) <= tolerance)
}

/// Turns below which nothing is called steady.
const TURNS_MIN: usize = 8;

/// What a reader in key order meets.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Locality {
    /// Pages that follow each other in key order and in the file, on the average.
    pub(crate) pages_a_run: f64,
    /// Reads for each hundred pages of a scan, whose read-ahead merges what stands side by side, in whatever order.
    pub(crate) reads_a_hundred: f64,
}

/// Pages that the engine's read-ahead asks for at once: 2 MiB of them.
const AHEAD_KIB: u64 = 2048;

impl Locality {
    /// That of a file, read in transfers of so many blocks at most.
    pub(crate) fn of(file: &PageFile, block_kib: u64, transfer_blocks: u64) -> Locality {
        let places: Vec<Extent> = (0..file.pages()).map(|page| file.at(page)).collect();
        let runs = places.chunk_by(|a, b| a.start + a.len == b.start).count();
        let window = (AHEAD_KIB / (block_kib * file.unit())).max(1) as usize;
        let reads: u64 = places.chunks(window).map(|ahead| reads(ahead, transfer_blocks)).sum();
        let pages = places.len() as f64;
        Locality { pages_a_run: pages / runs as f64, reads_a_hundred: 100.0 * reads as f64 / pages }
    }
}

/// The engine's rule (`store/reads.rs`): sorted by where they stand, those side by side together.
fn reads(pages: &[Extent], transfer_blocks: u64) -> u64 {
    let mut sorted = pages.to_vec();
    sorted.sort();
    let (mut end, mut blocks, mut reads) = (u64::MAX, 0, 0);
    for at in sorted {
        if at.start != end || blocks + at.len > transfer_blocks {
            reads += 1;
            blocks = 0;
        }
        blocks += at.len;
        end = at.start + at.len;
    }
    reads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: u64, len: u64) -> Extent {
        Extent { start, len }
    }

    #[test]
    fn free_runs_are_counted_by_their_blocks() {
        // Blocks 0 to 5 in use, 6 and 7 free, 8 and 9 in use, 10 to 31 free.
        let mut file = PageFile::new(&[2, 2, 2, 2], 2, 16, 32);
        assert!(file.claim(at(8, 2)));
        file.write(3, at(8, 2));
        file.checkpoint();
        let mut expected = FreeRuns::default();
        (expected.0[1], expected.0[5]) = (2.0 / 24.0, 22.0 / 24.0);
        assert_eq!(FreeRuns::of(&file), expected);
    }

    #[test]
    fn the_distance_is_the_share_that_differs() {
        let (mut a, mut b) = (FreeRuns::default(), FreeRuns::default());
        (a.0[0], a.0[1]) = (0.5, 0.5);
        (b.0[0], b.0[3]) = (0.6, 0.4);
        assert!((a.distance(&b) - 0.5).abs() < 1e-9);
        assert_eq!(a.distance(&a), 0.0);
    }

    #[test]
    fn what_still_drifts_is_not_steady() {
        let at = |share: f64| {
            let mut runs = FreeRuns::default();
            (runs.0[0], runs.0[1]) = (share, 1.0 - share);
            runs
        };
        let drifting: Vec<FreeRuns> = (0..20).map(|turn| at(f64::from(turn) / 200.0)).collect();
        assert!(!is_steady(&drifting, 0.02), "by half a percent a turn");
        let settled: Vec<FreeRuns> = (0..20).map(|turn| at(0.5 + 0.4 * 0.3f64.powi(turn))).collect();
        assert!(is_steady(&settled, 0.02) && !is_steady(&settled[..6], 0.02) && !is_steady(&[], 0.02));
    }

    #[test]
    fn a_loaded_file_is_one_run_and_a_scattered_one_is_none() {
        let mut file = PageFile::new(&[2; 256], 2, 256, 2048);
        let loaded = Locality::of(&file, 4, 64);
        assert_eq!((loaded.pages_a_run, loaded.reads_a_hundred), (256.0, 100.0 * 8.0 / 256.0));
        // Backwards: no page is followed by the next, but read together they stand side by side.
        for page in 0..256 {
            let to = at(1024 - 2 - 2 * u64::from(page), 2);
            assert!(file.claim(to));
            file.write(page, to);
        }
        let backwards = Locality::of(&file, 4, 64);
        assert_eq!((backwards.pages_a_run, backwards.reads_a_hundred), (1.0, 100.0 * 8.0 / 256.0));
        assert_eq!(reads(&[at(0, 2), at(4, 2), at(10, 1)], 64), 3);
    }
}
