//! Deliberate mistakes, and the harness that must notice each: a test of the tests.
//!
//! A mistake in the order of syncs is made by a file system that leaves one out ([`crate::lying`]); others by switches in the engine
//! ([`ashlardb::fault`]), which it has only with the feature `faults`. Those in what is checked on reading, and in what damage means, need
//! a disk that falsifies something; those in what transactions and snapshots are shown are for the histories by LSN.

use crate::crash::{Faults, Setup, cut, histories, history};
use crate::lying::Lie;
use crate::serial;
use ashlardb::fault::Fault;

/// Who must notice.
#[derive(Clone, Copy, Debug)]
pub enum Harness {
    /// Histories with crashes, on a file system that leaves out a sync.
    Lying(Lie),
    /// Histories with crashes.
    Crashes(Fault),
    /// Power cuts at every call of a long record's commit.
    Cuts(Fault),
    /// Histories with crashes and corrupting faults of the disk.
    Corrupting(Fault),
    /// Histories with crashes and faults that the disk tells of.
    Failing(Fault),
    /// Histories by LSN.
    ByLsn(Fault),
}

/// A mistake.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    /// What it is: the name of its test.
    pub name: &'static str,
    /// Who must notice.
    pub harness: Harness,
}

/// How a mistake was noticed.
#[derive(Clone, Debug)]
pub struct Noticed {
    /// By which seed, so after as many histories; or by a cut at which call.
    pub seed: u64,
    /// What was wrong.
    pub failure: String,
}

macro_rules! all {
    ($($name:ident: $harness:expr;)*) => {
        /// Every mistake that must be noticed.
        pub const ALL: &[Mutation] = &[$(Mutation { name: stringify!($name), harness: $harness },)*];

        /// Calls a macro with the names of all mistakes.
        #[macro_export]
        macro_rules! each_mutation {
            ($then:ident) => { $then! { $($name)* } };
        }
    };
}

use Harness::{ByLsn, Corrupting, Crashes, Cuts, Failing, Lying};

all! {
    a_checkpoint_that_does_not_sync_its_pages: Lying(Lie::CheckpointSync);
    a_superblock_that_is_not_synced: Lying(Lie::SuperblockSync);
    a_blob_that_is_not_synced: Lying(Lie::BlobSync);
    a_new_database_that_is_not_synced_before_it_is_named: Lying(Lie::CreationSync);
    a_log_whose_writes_are_not_durable: Lying(Lie::LogWrite);
    a_log_segment_that_is_not_synced: Lying(Lie::SegmentSync);
    a_log_that_is_not_synced_before_it_is_built_upon: Lying(Lie::LogSyncAtOpen);
    the_logs_directory_not_synced: Lying(Lie::LogDirectory);
    the_databases_directory_not_synced: Lying(Lie::DatabaseDirectory);
    the_parent_directory_not_synced: Lying(Lie::ParentDirectory);
    blocks_used_again_before_the_next_checkpoint: Crashes(Fault::ReuseEarly);
    blocks_freed_before_the_superblock_is_written: Crashes(Fault::FreeBeforeSuperblock);
    a_page_map_taken_from_the_page_table: Crashes(Fault::MapFromPageTable);
    a_blob_with_the_page_id_of_a_page_of_the_last_checkpoint: Crashes(Fault::RunIdEarly);
    a_commit_confirmed_before_it_is_durable: Crashes(Fault::ConfirmEarly);
    a_commit_shown_before_it_is_durable: Crashes(Fault::ShowEarly);
    a_file_cut_before_the_superblock_is_written: Crashes(Fault::ShrinkEarly);
    a_moved_run_whose_old_blocks_are_free_at_once: Crashes(Fault::MoveEarly);
    a_page_of_an_older_epoch_changed_in_place: Crashes(Fault::WriteFrozen);
    an_image_of_an_older_epoch_left_out_of_its_delta: Crashes(Fault::OldImageLeftOut);
    an_image_entered_in_the_delta_of_the_epoch_that_superseded_it: Crashes(Fault::SupersededLate);
    a_clean_mark_written_before_the_checkpoint: Crashes(Fault::MarkedCleanEarly);
    a_clean_mark_that_the_next_open_leaves: Crashes(Fault::CleanMarkStays);
    a_replay_of_what_the_checkpoint_has: Crashes(Fault::ReplayFromCut);
    a_torn_flush_taken_for_whole: Crashes(Fault::TornIsWhole);
    a_record_that_goes_on_in_another_incarnation: Cuts(Fault::RecordGoesOn);
    checksums_not_checked: Corrupting(Fault::IgnoreChecksum);
    checksums_in_block_pointers_not_checked: Corrupting(Fault::IgnorePointer);
    page_ids_and_checksums_in_block_pointers_not_checked: Corrupting(Fault::IgnorePageId);
    a_superblock_without_a_mirror: Corrupting(Fault::NoMirror);
    a_damaged_log_cut_off_instead_of_refused: Corrupting(Fault::LogTruncated);
    a_cut_beside_a_window_that_is_taken_for_done: Crashes(Fault::CutInWindow);
    what_waits_not_in_the_log_of_a_checkpoint: Crashes(Fault::WaitingNotReplayed);
    a_write_put_into_its_tree_over_stranded_ones: Failing(Fault::StrandedOvertaken);
    stranded_writes_that_no_checkpoint_has: Failing(Fault::StrandedNotInCatalog);
    ranges_that_are_not_validated: ByLsn(Fault::RangesNotValidated);
    writes_that_are_not_validated: ByLsn(Fault::WritesNotValidated);
    recent_commits_trimmed_at_the_watermark: ByLsn(Fault::TrimAtWatermark);
    a_commit_shown_before_it_is_durable_by_lsn: ByLsn(Fault::ShowEarly);
    a_commit_confirmed_before_it_is_durable_by_lsn: ByLsn(Fault::ConfirmEarly);
    a_transaction_that_does_not_wait_at_its_end: ByLsn(Fault::LeaveAtOnce);
    a_reader_that_does_not_wait_for_its_own_commits: ByLsn(Fault::OwnNotAwaited);
    a_before_image_added_after_its_leaf_has_changed: ByLsn(Fault::BeforeAfterLeaf);
    before_images_that_do_not_move_with_their_keys: ByLsn(Fault::BeforeStays);
    before_images_gone_that_a_transaction_reads: ByLsn(Fault::TransactionsHoldNothing);
    scans_that_do_not_see_what_waits: ByLsn(Fault::ScansMissWaiting);
    merges_that_tell_nobody_what_they_replace: ByLsn(Fault::MergedUntold);
    a_number_of_entries_without_what_waits: ByLsn(Fault::LenNotMerged);
    a_horizon_that_is_not_read_again: ByLsn(Fault::HorizonNotReread);
    a_horizon_that_a_writer_does_not_read_again: ByLsn(Fault::WritersHorizonNotReread);
}

impl Harness {
    /// Its name, for a table.
    pub fn name(self) -> &'static str {
        match self {
            Lying(_) | Crashes(_) => "histories with crashes",
            Cuts(_) => "cuts of a record",
            Corrupting(_) => "histories with corrupting faults",
            Failing(_) => "histories with faults that are told",
            ByLsn(_) => "histories by LSN",
        }
    }

    /// Runs up to `bound` histories; the seed of the first that notices.
    fn run(self, bound: u64) -> Option<Noticed> {
        let setup = match self {
            Lying(lie) => Setup { lie: Some(lie), ..Setup::default() },
            Crashes(fault) => Setup { fault, ..Setup::default() },
            Corrupting(fault) => Setup { fault, faults: Faults::corrupting(), ..Setup::default() },
            Failing(fault) => Setup { fault, faults: Faults::io(), ..Setup::default() },
            Cuts(fault) => {
                let (seed, failure) = cut::every_cut(fault).err()?;
                return Some(Noticed { seed, failure });
            }
            ByLsn(fault) => {
                let setup = serial::Setup { fault, ..serial::Setup::default() };
                let (seed, failure) = serial::histories(0, bound, &setup).err()?;
                assert_eq!(serial::history(seed, &setup), Err(failure.clone()), "seed {seed}");
                return Some(Noticed { seed, failure });
            }
        };
        let (seed, failure) = histories(0, bound, &setup).err()?;
        assert_eq!(history(seed, &setup), Err(failure.clone()), "seed {seed}");
        Some(Noticed { seed, failure: failure.to_string() })
    }
}

impl Mutation {
    /// The one of that name.
    ///
    /// # Panics
    /// Where there is none.
    pub fn named(name: &str) -> Mutation {
        *ALL.iter().find(|m| m.name == name).unwrap_or_else(|| panic!("no mutation {name}"))
    }

    /// Runs `bound` histories, or until one notices; that one notices it again.
    ///
    /// # Panics
    /// Where the same history does not fail in the same way again.
    pub fn run(&self, bound: u64) -> Option<Noticed> {
        self.harness.run(bound)
    }
}
