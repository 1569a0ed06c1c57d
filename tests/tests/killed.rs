//! Real processes on real files, killed (`SIGKILL`) at random while they open, write, read and make checkpoints.
//!
//! `ASHLAR_KILLS` sets how many, `ASHLAR_SEED` the first seed, `ASHLAR_TEST_DIR` where the database is.

use ashlar_tests::crash::killed::rounds;
use ashlar_tests::{number, test_dir};
use std::path::Path;

#[test]
fn a_killed_process_leaves_what_it_confirmed_and_a_prefix_of_the_rest() {
    let (first, count) = (number("ASHLAR_SEED", 0), number("ASHLAR_KILLS", 20));
    let dir = tempfile::tempdir_in(test_dir()).expect("a directory");
    let program = Path::new(env!("CARGO_BIN_EXE_load-until-killed"));
    match rounds(program, &dir.path().join("db"), first, count) {
        Ok(sum) => println!("{sum:?}"),
        Err(failure) => {
            let kept = dir.keep();
            panic!("{failure}\nthe database is kept in {}", kept.display());
        }
    }
}
