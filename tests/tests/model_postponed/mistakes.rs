//! What can be got wrong in the protocol.

/// What can be got wrong. `None` is the design.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mistake {
    None,
    /// A view looks up a key in the tree first, then in the tables.
    TablesAfterTree,
    /// A scan lets go of the leaf, then looks at the tables.
    OverlayAfterLatch,
    /// The tables are taken before it is known at which LSN will be read.
    TablesBeforeLsn,
    /// Versions in `newest` hide those in `merging` even where they are too new.
    NewestHides,
    /// Of the two tables `merging` wins.
    MergingWins,
    /// A fresh `newest` is put in its place in one step, `merging` in another.
    TwoStores,
    /// `merging` is dropped before its last lot.
    DroppedEarly,
    /// Of a key that was merged the newest version goes first.
    RemovedNewestFirst,
    /// What a lot merges goes before it is in the tree.
    RemovedBeforeMerged,
    /// All versions of a key count as one, whatever the horizon.
    CollapsedAlways,
    /// The watermark is the horizon, whoever reads below.
    CollapsedBelowWatermark,
    /// A reader does not look at the horizon again when it has its slot.
    HorizonNotReread,
    /// Versions above the horizon have no before-images.
    NoBeforeImages,
    /// A key has one before-image, of its newest version.
    OneBeforeImage,
    /// Versions of a key are applied newest first.
    NewestFirst,
    /// A leaf's LSN is that of what was applied to it last.
    LeafLsnFalls,
    /// A commit is applied directly though others wait in `newest`.
    Overtakes,
    /// A commit is applied directly though others wait in `merging`.
    OvertakesWindow,
    /// A range is removed from the tree though writes wait.
    RemovalOvertakes,
    /// What this process was told of is not waited for where it stands in a table.
    OwnNotAwaited,
    /// What it was told of is held against a watermark that is asked for anew.
    OwnAgainstNewWatermark,
    /// The number of entries is taken without merging first.
    LenUnmerged,
    /// `merged` rises before the numbers of entries are set.
    MergedBeforeLens,
    /// A window changes the number of entries at once, as of its last LSN.
    LenAtOnce,
    /// A window's last LSN is the newest in its table, and no commit without writes counts.
    LastOfTable,
    /// A transaction notes the LSN of the leaf alone as met.
    MetOfLeafOnly,
    /// The cut is made inside a window and says that all of it is there.
    CutClaimsWindow,
    /// The cut is made inside a window and says that none of it is there.
    CutDeniesWindow,
    /// The cut says that all that is applied is there.
    CutClaimsApplied,
    /// Replay starts behind what waits.
    ReplayBehindWaiting,
    /// A leaf that is joined between two lots bears the newest applied LSN.
    JoinStampsApplied,
    /// A version leaves `merging` before it is in `stranded`.
    StrandedTooLate,
    /// A key is looked up in `stranded`, then in `merging`.
    StrandedBeforeMerging,
    /// A view looks up a key in the tree, then in `stranded`.
    StrandedAfterTree,
    /// A look-up without a view that finds only what is too new in `stranded` goes on to the tree.
    NotLookedAgain,
    /// What this process was told of is not waited for where it is stranded.
    StrandedNotAwaited,
    /// A scan lays `stranded` over `merging`.
    StrandedWins,
    /// A transaction does not note what it finds in `stranded` as met.
    StrandedNotMet,
    /// A scan does not look at `stranded`.
    PassWithoutStranded,
    /// A version goes to the tree though older ones of its key are stranded.
    WrittenOverStranded,
    /// A range is removed from the tree though versions in it are stranded.
    RemovalLeavesStranded,
    /// What was stranded has no before-images.
    LateWithoutImages,
    /// What was stranded goes before it is in the tree.
    LeftBeforeWritten,
    /// What was stranded goes before the number of entries is changed.
    LeftBeforeLens,
    /// Of a key that was stranded the newest version goes first.
    StrandedNewestFirst,
    /// A stranded version goes when the watermark has passed the next, whoever reads below.
    SupersededAtWatermark,
    /// It goes when the next one that nobody reads below waits.
    SupersededByWaiting,
    /// The number of entries changes by what was stranded as if it had come last.
    LateLenAtEnd,
    /// It changes by what was stranded when the window ends.
    LateLenWithWindow,
    /// Entries are not counted one by one while something is stranded.
    StrandedNotCounted,
    /// Whether something is stranded is asked before all is merged.
    StrandedAskedFirst,
    /// The cut does not have what is stranded.
    CutWithoutStranded,
    /// An open does not load what is stranded.
    StrandedNotLoaded,
    /// Replay writes to the tree though an older version is stranded.
    ReplayOverStranded,
    /// After a crash writes wait that were made before a range was removed.
    WaitsAgainOverRemoval,
    /// After a crash the first write of a key waits, not the last.
    FirstWaitsAgain,
    /// After a crash what waits counts as merged.
    WaitsAgainAsMerged,
}

pub(super) const ALL: &[Mistake] = &[
    Mistake::TablesAfterTree,
    Mistake::OverlayAfterLatch,
    Mistake::TablesBeforeLsn,
    Mistake::NewestHides,
    Mistake::MergingWins,
    Mistake::TwoStores,
    Mistake::DroppedEarly,
    Mistake::RemovedNewestFirst,
    Mistake::RemovedBeforeMerged,
    Mistake::CollapsedAlways,
    Mistake::CollapsedBelowWatermark,
    Mistake::HorizonNotReread,
    Mistake::NoBeforeImages,
    Mistake::OneBeforeImage,
    Mistake::NewestFirst,
    Mistake::LeafLsnFalls,
    Mistake::Overtakes,
    Mistake::OvertakesWindow,
    Mistake::RemovalOvertakes,
    Mistake::OwnNotAwaited,
    Mistake::OwnAgainstNewWatermark,
    Mistake::LenUnmerged,
    Mistake::MergedBeforeLens,
    Mistake::LenAtOnce,
    Mistake::LastOfTable,
    Mistake::MetOfLeafOnly,
    Mistake::CutClaimsWindow,
    Mistake::CutDeniesWindow,
    Mistake::CutClaimsApplied,
    Mistake::ReplayBehindWaiting,
    Mistake::JoinStampsApplied,
    Mistake::StrandedTooLate,
    Mistake::StrandedBeforeMerging,
    Mistake::StrandedAfterTree,
    Mistake::NotLookedAgain,
    Mistake::StrandedNotAwaited,
    Mistake::StrandedWins,
    Mistake::StrandedNotMet,
    Mistake::PassWithoutStranded,
    Mistake::WrittenOverStranded,
    Mistake::RemovalLeavesStranded,
    Mistake::LateWithoutImages,
    Mistake::LeftBeforeWritten,
    Mistake::LeftBeforeLens,
    Mistake::StrandedNewestFirst,
    Mistake::SupersededAtWatermark,
    Mistake::SupersededByWaiting,
    Mistake::LateLenAtEnd,
    Mistake::LateLenWithWindow,
    Mistake::StrandedNotCounted,
    Mistake::StrandedAskedFirst,
    Mistake::CutWithoutStranded,
    Mistake::StrandedNotLoaded,
    Mistake::ReplayOverStranded,
    Mistake::WaitsAgainOverRemoval,
    Mistake::FirstWaitsAgain,
    Mistake::WaitsAgainAsMerged,
];
