//! CRC-32C of a page, as every read and every write of one computes it.
//!
//! `cargo bench -p ashlar-benches --bench checksum`
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

/// The definition: bit by bit, reflected, polynomial 0x1EDC6F41 (RFC 3720, appendix B.4).
fn by_definition(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 })
    })
}

fn checksum(c: &mut Criterion) {
    assert_eq!(by_definition(b"123456789"), 0xE306_9283, "the check value of CRC-32C");
    let mut group = c.benchmark_group("crc32c of a page");
    for size in [4096, 8192, 16384, 65536] {
        let page: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
        let expected = by_definition(&page);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{} KiB", size / 1024), |b| {
            b.iter(|| assert_eq!(crc32c::crc32c(black_box(&page)), expected));
        });
    }
    group.finish();
}

criterion_group!(benches, checksum);
criterion_main!(benches);
