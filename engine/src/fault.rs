//! Deliberate mistakes, one at a time, that the crash harness must notice: a test of the tests.
//!
//! Only with the feature `faults` can one be asked for ([`Options::fault`](crate::Options)); without it the question whether there
//! is one is answered by the compiler.

/// A mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Fault {
    /// None.
    #[default]
    None,
    /// Blocks superseded in an epoch are free at once, not when its checkpoint is durable.
    ReuseEarly,
    /// Blocks are free and log segments recycled before the superblock is written, not after.
    FreeBeforeSuperblock,
    /// A checkpoint's page map says where pages are, not where they were at the cut.
    MapFromPageTable,
    /// A blob gets the page id of a page that the last durable checkpoint has.
    RunIdEarly,
    /// An `Immediate` commit returns before the log is durable.
    ConfirmEarly,
    /// Readers see a commit before it is durable.
    ShowEarly,
    /// The file's end is cut off before the superblock is written that no longer needs it.
    ShrinkEarly,
    /// The old blocks of a run of a blob that was moved are free at once, not when the checkpoint is durable that says so.
    MoveEarly,
    /// Ranges that a transaction has read are not validated.
    RangesNotValidated,
    /// Before-images are added after the leaf has changed.
    BeforeAfterLeaf,
    /// Before-images do not move with their keys to another leaf.
    BeforeStays,
    /// Whoever begins to read does not look whether the horizon has passed meanwhile.
    HorizonNotReread,
    /// Nor does a transaction that may write look whether recent commits were trimmed past it meanwhile.
    WritersHorizonNotReread,
    /// The list of recent commits is trimmed at the watermark, whoever still needs it.
    TrimAtWatermark,
    /// A transaction ends without waiting until what it has read is durable.
    LeaveAtOnce,
    /// Readers do not wait until they see what this process has committed `Eventual`.
    OwnNotAwaited,
    /// Transactions do not hold back the before-images that they read.
    TransactionsHoldNothing,
    /// What a transaction under snapshot isolation writes is not validated.
    WritesNotValidated,
    /// Pages whose checksum is wrong are taken for whole.
    IgnoreChecksum,
    /// So are whole pages that are not those that their block pointers name: an older image, after a write that was lost.
    IgnorePointer,
    /// As before, and whatever page it says it is.
    IgnorePageId,
    /// The superblock has no mirror copy: the primary alone is written.
    NoMirror,
    /// Recovery applies also what the checkpoint has already.
    ReplayFromCut,
    /// A page that is dirty in an older epoch is changed in place, not in a copy.
    WriteFrozen,
    /// The image of an older epoch, written when its page had changed again, is left out of that epoch's delta.
    OldImageLeftOut,
    /// Such an image enters the delta of the epoch that superseded it.
    SupersededLate,
    /// A flush of the log that is torn is taken for whole.
    TornIsWhole,
    /// A damaged part of the log that had been confirmed is taken for its end.
    LogTruncated,
    /// A record of the log goes on in a flush of another incarnation.
    RecordGoesOn,
    /// The clean mark is written before the checkpoint that lets the log hold nothing.
    MarkedCleanEarly,
    /// An open for writing leaves the clean mark in its own superblock.
    CleanMarkStays,
    /// What a merge replaces is told to nobody, whoever may still read it.
    MergedUntold,
    /// Scans do not see what waits.
    ScansMissWaiting,
    /// A checkpoint's cut is made beside a window under way, and takes it for done.
    CutInWindow,
    /// A checkpoint's log begins behind what waits.
    WaitingNotReplayed,
    /// A number of entries is told without what waits.
    LenNotMerged,
    /// A newer write goes into its tree while older ones of its key are stranded.
    StrandedOvertaken,
    /// What is stranded is in memory alone.
    StrandedNotInCatalog,
    /// A thread named `dies` panics when its commit has taken its LSN. Not a mistake of the engine's: what may happen to it.
    DiesBeforeApply,
    /// The thread that merges what waits dies as soon as something does. Not a mistake either.
    MergerDies,
}

impl Fault {
    /// Whether this is the mistake to be made.
    #[inline]
    pub(crate) fn is(self, fault: Fault) -> bool {
        cfg!(feature = "faults") && self == fault
    }
}
