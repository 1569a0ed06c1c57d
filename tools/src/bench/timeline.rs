//! When operations ended: how many in each tenth of a second, and the longest time in which none did.
//!
//! 1. Counts are exact.
//! 2. Of each short span only the first and the last end are kept. A pause at least as long as a span is found as it was: its two
//!    ends lie in different spans, one as the last of its span, the other as the first. A shorter one may be missed.
//! 3. Spans have a millisecond, and twice as much each time that there are too many of them: memory is bounded.

use std::time::Duration;

/// The time that a count is of.
pub(super) const STEP: Duration = Duration::from_millis(100);
/// 2^20 ns, about a millisecond.
const SPAN_LOG2: u32 = 20;
/// Spans kept: 69 s of the shortest.
const SPANS_MAX: usize = 1 << 16;

/// Of one thread, or of several merged. All times are since the beginning of the run.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    counts: Vec<u64>,
    spans: Vec<Span>,
    span_log2: u32,
    /// When the first thread began.
    begun: u64,
}

/// The first and the last end in a span.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u64,
    last: u64,
}

impl Span {
    const EMPTY: Span = Span { first: u64::MAX, last: 0 };

    fn with(self, other: Span) -> Span {
        Span { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    fn is_empty(self) -> bool {
        self.first > self.last
    }
}

impl Timeline {
    pub(super) fn new() -> Timeline {
        Timeline { counts: Vec::new(), spans: Vec::new(), span_log2: SPAN_LOG2, begun: u64::MAX }
    }

    /// A thread begins: what it took to start it is no pause.
    pub(super) fn begin(&mut self, at: Duration) {
        self.begun = self.begun.min(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
    }

    /// An operation has ended.
    pub(super) fn add(&mut self, end: Duration) {
        let step = (end.as_nanos() / STEP.as_nanos()) as usize;
        if step >= self.counts.len() {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
        let nanos = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
        while nanos >> self.span_log2 >= SPANS_MAX as u64 {
            self.coarsen();
        }
        let span = (nanos >> self.span_log2) as usize;
        if span >= self.spans.len() {
            self.spans.resize(span + 1, Span::EMPTY);
        }
        self.spans[span] = self.spans[span].with(Span { first: nanos, last: nanos });
    }

    fn coarsen(&mut self) {
        self.spans = self.spans.chunks(2).map(|pair| pair.iter().copied().fold(Span::EMPTY, Span::with)).collect();
        self.span_log2 += 1;
    }

    /// With the ends of another thread.
    pub(super) fn merge(&mut self, other: &Timeline) {
        let mut other = other.clone();
        self.begun = self.begun.min(other.begun);
        while self.span_log2 < other.span_log2 {
            self.coarsen();
        }
        while other.span_log2 < self.span_log2 {
            other.coarsen();
        }
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.spans.resize(self.spans.len().max(other.spans.len()), Span::EMPTY);
        self.spans.iter_mut().zip(&other.spans).for_each(|(span, more)| *span = span.with(*more));
    }

    /// How many operations have ended in each [`STEP`], up to the last one in which any has.
    pub(super) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// When the last operation ended.
    pub(super) fn last(&self) -> Duration {
        Duration::from_nanos(self.spans.last().map_or(0, |span| span.last))
    }

    /// The longest time without an end, from when the first thread began to the last end; see (2).
    pub(super) fn longest_pause(&self) -> Duration {
        let (mut longest, mut before) = (0, self.begun);
        for span in self.spans.iter().filter(|span| !span.is_empty()) {
            longest = longest.max(span.first.saturating_sub(before));
            before = span.last;
        }
        Duration::from_nanos(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(ends_us: impl IntoIterator<Item = u64>) -> Timeline {
        let mut timeline = Timeline::new();
        timeline.begin(Duration::ZERO);
        ends_us.into_iter().for_each(|end| timeline.add(Duration::from_micros(end)));
        timeline
    }

    #[test]
    fn each_end_is_counted_in_its_step() {
        let found = timeline([0, 99_999, 100_000, 350_000]);
        assert_eq!(found.counts(), [2, 1, 0, 1]);
        assert_eq!(found.last(), Duration::from_micros(350_000));
        let mut sum = timeline([350_001, 799_999]);
        sum.merge(&found);
        assert_eq!(sum.counts(), [2, 1, 0, 2, 0, 0, 0, 1]);
    }

    #[test]
    fn the_longest_pause_is_that_of_all_threads_together() {
        assert_eq!(timeline([]).longest_pause(), Duration::ZERO);
        assert_eq!(timeline([7_000]).longest_pause(), Duration::from_micros(7_000));
        let mut late = Timeline::new();
        late.begin(Duration::from_micros(80_000));
        late.add(Duration::from_micros(81_000));
        assert_eq!(late.longest_pause(), Duration::from_micros(1_000));
        let a = timeline([1_000, 2_000, 30_000, 31_000]);
        assert_eq!(a.longest_pause(), Duration::from_micros(28_000));
        let mut both = timeline([1_500, 12_345, 30_500]);
        assert_eq!(both.longest_pause(), Duration::from_micros(18_155));
        both.merge(&a);
        assert_eq!(both.longest_pause(), Duration::from_micros(17_655));
    }

    #[test]
    fn a_long_run_takes_bounded_memory_and_its_pauses_are_still_right() {
        // 500 s: three times as coarse as at first. The pause is told to the microsecond all the same.
        let ends = || (1..=500_000u64).map(|ms| ms * 1000).filter(|end| !(77_000_000..77_123_000).contains(end));
        let mut found = timeline(ends());
        assert!(found.spans.len() <= SPANS_MAX && found.span_log2 > SPAN_LOG2);
        assert_eq!(found.longest_pause(), Duration::from_micros(77_123_000 - 76_999_000));
        // Of another thread, which has ended early and so is as fine as at first.
        found.merge(&timeline([77_050_500]));
        assert_eq!(found.longest_pause(), Duration::from_micros(77_123_000 - 77_050_500));
        assert_eq!(found.counts().iter().sum::<u64>(), 500_000 - 123 + 1);
        let mut early = timeline([77_050_500]);
        early.merge(&timeline(ends()));
        assert_eq!((early.longest_pause(), early.last()), (found.longest_pause(), Duration::from_secs(500)));
    }
}
