//! Any bytes as a copy of the superblock.

#![no_main]

use ashlardb::store::superblock::{Copy, Superblock};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: ashlar_fuzz::believe_all(), |input: &[u8]| {
    if let Copy::Whole(superblock) = Superblock::decode(input) {
        match Superblock::decode(&superblock.encode()) {
            Copy::Whole(again) => assert_eq!(again, superblock),
            other => panic!("{superblock:?} comes back as {other:?}"),
        }
    }
});
