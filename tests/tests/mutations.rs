//! Deliberate mistakes, each of which the crash histories must notice: a test of the harness.
//!
//! A mistake in the order of syncs is made by a file system that leaves one out; others by switches in the engine, which it has
//! only with the feature `faults`. That recovery follows no flush of an older incarnation can't be tested so: with one flush in
//! flight at a time no crash leaves one behind the log's end. The log's tests of damage make such a log, and the mistake.
//!
//! Mistakes in what transactions and snapshots are shown are for the histories of [`ashlar_tests::serial`] to notice.
//!
//! `ASHLAR_MUTATION_HISTORIES` bounds how many histories may pass before one fails.

use ashlar_tests::crash::{Setup, histories, history};
use ashlar_tests::lying::Lie;
use ashlar_tests::number;
use ashlar_tests::serial;
use ashlardb::fault::Fault;

/// The mistake is noticed within the bound; the history that notices it does so every time.
fn is_noticed(setup: &Setup) {
    let bound = number("ASHLAR_MUTATION_HISTORIES", 3000);
    let noticed = histories(0, bound, setup);
    let (seed, failure) = noticed.expect_err("the mistake went unnoticed");
    println!("{setup:?} is noticed by seed {seed}: {failure:.300}");
    assert_eq!(history(seed, setup), Err(failure));
}

macro_rules! mistakes {
    ($($name:ident: $field:ident $value:expr;)*) => {$(
        #[test]
        fn $name() {
            is_noticed(&Setup { $field: $value, ..Setup::default() });
        }
    )*};
}

mistakes! {
    a_checkpoint_that_does_not_sync_its_pages: lie Some(Lie::CheckpointSync);
    a_superblock_that_is_not_synced: lie Some(Lie::SuperblockSync);
    a_blob_that_is_not_synced: lie Some(Lie::BlobSync);
    a_log_whose_writes_are_not_durable: lie Some(Lie::LogWrite);
    a_log_segment_that_is_not_synced: lie Some(Lie::SegmentSync);
    a_log_that_is_not_synced_before_it_is_built_upon: lie Some(Lie::LogSyncAtOpen);
    the_logs_directory_not_synced: lie Some(Lie::LogDirectory);
    the_databases_directory_not_synced: lie Some(Lie::DatabaseDirectory);
    the_parent_directory_not_synced: lie Some(Lie::ParentDirectory);
    blocks_used_again_before_the_next_checkpoint: fault Fault::ReuseEarly;
    blocks_freed_before_the_superblock_is_written: fault Fault::FreeBeforeSuperblock;
    a_page_map_taken_from_the_page_table: fault Fault::MapFromPageTable;
    a_blob_with_the_page_id_of_a_page_of_the_last_checkpoint: fault Fault::RunIdEarly;
    a_commit_confirmed_before_it_is_durable: fault Fault::ConfirmEarly;
    a_commit_shown_before_it_is_durable: fault Fault::ShowEarly;
    a_file_cut_before_the_superblock_is_written: fault Fault::ShrinkEarly;
    a_moved_run_whose_old_blocks_are_free_at_once: fault Fault::MoveEarly;
}

/// As [`is_noticed`], by histories of transactions.
fn is_noticed_by_lsn(fault: Fault) {
    let bound = number("ASHLAR_MUTATION_HISTORIES", 3000);
    let setup = serial::Setup { fault, ..serial::Setup::default() };
    let noticed = serial::histories(0, bound, &setup);
    let (seed, failure) = noticed.expect_err("the mistake went unnoticed");
    println!("{fault:?} is noticed by seed {seed}: {failure:.600}");
    assert_eq!(serial::history(seed, &setup), Err(failure));
}

macro_rules! mistakes_by_lsn {
    ($($name:ident: $fault:expr;)*) => {$(
        #[test]
        fn $name() {
            is_noticed_by_lsn($fault);
        }
    )*};
}

mod transactions {
    use super::*;

    mistakes_by_lsn! {
        ranges_that_are_not_validated: Fault::RangesNotValidated;
        writes_that_are_not_validated: Fault::WritesNotValidated;
        recent_commits_trimmed_at_the_watermark: Fault::TrimAtWatermark;
        a_commit_shown_before_it_is_durable: Fault::ShowEarly;
        a_commit_confirmed_before_it_is_durable: Fault::ConfirmEarly;
        a_transaction_that_does_not_wait_at_its_end: Fault::LeaveAtOnce;
        a_reader_that_does_not_wait_for_its_own_commits: Fault::OwnNotAwaited;
        a_before_image_added_after_its_leaf_has_changed: Fault::BeforeAfterLeaf;
        before_images_that_do_not_move_with_their_keys: Fault::BeforeStays;
        before_images_gone_that_a_transaction_reads: Fault::TransactionsHoldNothing;
        a_horizon_that_is_not_read_again: Fault::HorizonNotReread;
        a_horizon_that_a_writer_does_not_read_again: Fault::WritersHorizonNotReread;
    }
}
