//! Every sequence of up to two operations with a crash at every call of the last one, after one of a few also with crashes in recovery,
//! two deep. `ASHLAR_SHORT_LEN=3` runs longer ones, `ASHLAR_SHORT_WHOLE` sets up to which length recovery always crashes;
//! `ashlar stress sim --enumerate 3` runs all of it. And a long record, cut at every call of its commit.

use ashlar_tests::crash::cut::every_cut;
use ashlar_tests::crash::short::{Enumeration, enumerate};
use ashlar_tests::number;
use ashlardb::fault::Fault;

#[test]
fn every_short_sequence_survives_a_crash_at_every_call() {
    let (len, whole_up_to) = (number("ASHLAR_SHORT_LEN", 2) as u32, number("ASHLAR_SHORT_WHOLE", 0) as u32);
    let enumeration = Enumeration { whole_up_to, sample: 9, ..Enumeration::up_to(len) };
    let counts = enumerate(&enumeration, &|_| {}).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{counts:?}");
    assert_eq!(counts.sequences, enumeration.sequences());
    assert!(counts.crashes > 4 * counts.sequences && counts.crashes_in_recovery.iter().all(|&n| n > 1000), "{counts:?}");
}

#[test]
fn a_record_that_is_cut_is_void_and_what_comes_behind_it_stays() {
    let calls = every_cut(Fault::None).unwrap_or_else(|(call, what)| panic!("cut at call {call}: {what}"));
    assert!(calls >= 2, "a record of several flushes has {calls} calls");
}
