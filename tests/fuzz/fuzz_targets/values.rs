//! Any bytes as a commit's record, a leaf's cell, an entry of the catalog.

#![no_main]

use ashlardb::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    parse::record(input);
    if let Some((&[kind, key_len], rest)) = input.split_first_chunk::<2>() {
        parse::cell(kind, rest, 4096);
        let (key, value) = rest.split_at(usize::from(key_len).min(rest.len()));
        parse::catalog(key, value);
    }
});
