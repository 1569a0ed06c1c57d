//! A sequence of operations on a small database, and the call to the disk during which the machine crashes.

#![no_main]

use ashlar_disk::sim::Restart;
use ashlar_tests::crash::short::{STEPS, Step, crash_at_call};
use libfuzzer_sys::fuzz_target;

/// Longer sequences are shorter ones one after the other.
const STEPS_MAX: usize = 24;

fuzz_target!(|input: &[u8]| {
    let Some((&[low, high, how], rest)) = input.split_first_chunk::<3>() else { return };
    let steps: Vec<Step> = rest.iter().take(STEPS_MAX).map(|&byte| STEPS[usize::from(byte) % STEPS.len()]).collect();
    let call = u64::from(u16::from_le_bytes([low, high % 4])) + 1;
    let how = if how % 2 == 0 { Restart::PowerCut } else { Restart::Kill };
    if let Err(failure) = crash_at_call(&steps, call, how) {
        panic!("{steps:?}, crash at call {call}, {how:?}: {failure}");
    }
});
