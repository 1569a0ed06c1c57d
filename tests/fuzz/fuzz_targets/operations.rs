//! A sequence of operations on a small database, and the call of the last one during which the machine crashes.

#![no_main]

use ashlar_tests::crash::short::{STEPS, Step, crash_in_last};
use libfuzzer_sys::fuzz_target;

/// Longer sequences are shorter ones one after the other.
const STEPS_MAX: usize = 24;

fuzz_target!(|input: &[u8]| {
    let Some((&[low, high], rest)) = input.split_first_chunk::<2>() else { return };
    let steps: Vec<Step> = rest.iter().take(STEPS_MAX).map(|&byte| STEPS[usize::from(byte) % STEPS.len()]).collect();
    let call = u64::from(u16::from_le_bytes([low, high % 4])) + 1;
    if steps.is_empty() {
        return;
    }
    if let Err(failure) = crash_in_last(&steps, call) {
        panic!("{steps:?}, crash during call {call} of the last: {failure}");
    }
});
