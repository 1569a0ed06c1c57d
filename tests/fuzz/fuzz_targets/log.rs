//! Any bytes as the segments of a log.

#![no_main]

use ashlar_disk::sim::{Sim, SimOptions};
use ashlar_disk::{Access, AlignedBuf, BlockSize, Create, Durability, Fs, IoMode, OpenHow};
use ashlar_wal::{LogStart, Lsn, WalOptions, inspect, read_log};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::Arc;

const SEGMENT: usize = 64 << 10;

fuzz_target!(init: ashlar_fuzz::believe_all(), |input: &[u8]| {
    let Some((&[c, incarnation, durable], log)) = input.split_first_chunk::<3>() else { return };
    let sim = Sim::new(SimOptions::new(1));
    let fs: Arc<dyn Fs> = sim.fs();
    let dir = Path::new("/wal");
    fs.create_dir(dir).expect("an empty disk");
    let segments = log.len().div_ceil(SEGMENT).clamp(1, 4);
    for n in 0..segments {
        let how = OpenHow { access: Access::ReadWrite, create: Create::New, mode: IoMode::Direct, block: BlockSize::MIN };
        let file = fs.open(&dir.join(format!("{n:012}.wal")), &how).expect("an empty disk");
        let part = &log[(n * SEGMENT).min(log.len())..((n + 1) * SEGMENT).min(log.len())];
        let mut buf = AlignedBuf::zeroed(SEGMENT);
        buf[..part.len()].copy_from_slice(part);
        file.write(0, &[buf.words_mut()], Durability::Later).expect("an empty disk");
    }
    let options = WalOptions { segment_size: SEGMENT as u64, ..WalOptions::new(*b"0123456789abcdef") };
    let start = LogStart {
        c: Lsn(u64::from(c % 16) * 4096),
        incarnation_at_c: u32::from(incarnation & 3),
        newest_incarnation: u32::from(incarnation >> 4),
        durable: Lsn(u64::from(durable) * 64),
    };
    let scan = read_log(&fs, dir, &options, &start);
    if let Ok(scan) = &scan {
        let mut records = 0;
        let mut bytes = 0;
        for record in scan.records().expect("options that worked") {
            let record = record.expect("a log that was read once");
            records += 1;
            bytes += record.body.len();
        }
        assert_eq!(records, scan.tail().records, "the scan counted other records than there are");
        assert!(bytes <= segments * SEGMENT);
    }
    if let Ok(flushes) = inspect(&fs, dir, &options, &start) {
        flushes.for_each(drop);
    }
});
