//! Each kind of fault: what the caller is told, and what is on the disk afterwards.

use super::queue::{queue, write_transfer};
use super::*;
use Durability::{Later, Now};
use std::sync::mpsc;

const ALWAYS: u32 = FaultRates::OF;

fn only(kind: FaultKind) -> FaultRates {
    FaultRates::none().with(kind, ALWAYS)
}

/// A machine whose file `/f` has four durable blocks of 1.
fn machine(seed: u64) -> (Sim, Arc<SimFs>, Arc<dyn File>) {
    let sim = Sim::new(SimOptions::new(seed));
    let fs = sim.fs();
    let file = durable_file(&fs, "/f", 4, 1);
    (sim, fs, file)
}

fn is_eio<T: Debug>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Io { errno: Some(libc::EIO), .. }))
}

/// A block's bytes, or nothing where it can't be read.
fn block(file: &Arc<dyn File>, number: u64) -> Option<Vec<u8>> {
    let buf = AlignedBuf::zeroed(BLOCK);
    file.read(number * BLOCK as u64, &[buf.words()]).ok()?;
    Some(buf.to_vec())
}

/// How many bits of a block of `byte` are others.
fn flipped(bytes: &[u8], byte: u8) -> u32 {
    bytes.iter().map(|b| (b ^ byte).count_ones()).sum()
}

#[test]
fn a_machine_without_faults_has_none() {
    let (sim, _, file) = machine(1);
    assert!(sectors(&file, 3).is_ok() && sim.injected().is_empty());
}

#[test]
fn a_read_error_is_told_and_passes() {
    let (sim, fs, file) = machine(1);
    sim.set_faults(only(FaultKind::ReadError));
    assert!(is_eio(&sectors(&file, 1)));
    assert!(is_eio(&open(&fs, "/f")) && is_eio(&fs.list(Path::new("/"))));
    write(&file, 0, 2, Later).expect("writes are not struck");
    sim.set_faults(FaultRates::none());
    assert_eq!(sectors(&file, 1).expect("passed"), [1; 8]);
    let injected = sim.injected();
    assert_eq!(injected.len(), 3);
    assert!(
        matches!(&injected[0], InjectedFault { kind: FaultKind::ReadError, offset: Some(4096), path, .. } if **path == *Path::new("/f"))
    );
    assert!(injected[0].to_string().starts_with("read-error in read /f at byte 4096 after call "), "{}", injected[0]);
}

#[test]
fn a_write_error_leaves_all_or_nothing_of_a_block_and_is_not_durable() {
    let (mut now, mut later) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..60 {
        let (sim, fs, file) = machine(seed);
        sim.set_faults(only(FaultKind::WriteError));
        assert!(is_eio(&write(&file, 1, 2, Now)));
        now.insert(found(&fs, "/f", 1));
        sim.set_faults(FaultRates::none());
        let cut = sim.restart(Restart::PowerCut, SimOptions::new(seed));
        later.insert(found(&cut.fs(), "/f", 1));
    }
    assert_eq!(now, set(["1", "2"]));
    assert_eq!(later, set(["1", "1+2", "2"]), "a durable write that failed is not durable");
}

#[test]
fn changes_of_names_length_and_room_fail_with_a_write_error() {
    let (sim, fs, file) = machine(3);
    sim.set_faults(only(FaultKind::WriteError));
    let path = Path::new;
    assert!(is_eio(&fs.create_dir(path("/d"))) && is_eio(&fs.rename(path("/f"), path("/g"))));
    assert!(is_eio(&fs.remove(path("/f"))) && is_eio(&fs.open(path("/n"), &how(Create::New))));
    assert!(is_eio(&file.allocate(0, 1 << 20)) && is_eio(&file.punch_hole(0, 4096)));
    assert!(is_eio(&file.set_len(4096)));
    assert!([4096, 4 * 4096].contains(&file.len().expect("a length")), "the old length or the new one");
    assert_eq!(fs.list(path("/")).expect("listed"), ["f"]);
}

#[test]
fn a_failed_sync_drops_what_it_was_to_make_durable_and_the_next_one_succeeds() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let (sim, fs, file) = machine(seed);
        write(&file, 1, 2, Later).expect("written");
        write(&file, 2, 3, Now).expect("written");
        sim.set_faults(only(FaultKind::SyncError));
        assert!(is_eio(&file.sync(SyncKind::Data)));
        sim.set_faults(FaultRates::none());
        file.sync(SyncKind::Data).expect("reported once");
        let readable = found(&fs, "/f", 1);
        let cut = sim.restart(Restart::PowerCut, SimOptions::new(seed)).fs();
        assert_eq!(found(&cut, "/f", 1), readable, "seed {seed}: the second sync covered what was left");
        assert_eq!(found(&cut, "/f", 2), "3", "seed {seed}: what was durable stays");
        seen.insert(readable);
    }
    assert_eq!(seen, set(["1", "2"]));
}

#[test]
fn a_failed_sync_leaves_what_it_did_not_cover_and_the_length() {
    for seed in 0..50 {
        let (sim, fs, file) = machine(seed);
        (4..8).for_each(|n| write(&file, n, 2, Later).expect("written"));
        sim.set_faults(only(FaultKind::SyncError));
        assert!(is_eio(&file.sync(SyncKind::All)) && is_eio(&fs.sync_dir(Path::new("/"))));
        assert_eq!(file.len().expect("a length"), 8 * BLOCK as u64);
        sim.set_faults(FaultRates::none());
        write(&file, 4, 3, Later).expect("written");
        file.sync(SyncKind::All).expect("synced");
        let cut = sim.restart(Restart::PowerCut, SimOptions::new(seed)).fs();
        assert_eq!(found(&cut, "/f", 4), "3");
        assert!(["0", "2"].contains(&found(&cut, "/f", 7).as_str()));
    }
}

#[test]
fn no_space_is_for_what_needs_room() {
    let (sim, fs, file) = machine(1);
    sim.set_faults(only(FaultKind::NoSpace));
    write(&file, 0, 2, Now).expect("has room already");
    assert!(write(&file, 9, 2, Later).expect_err("struck").is_no_space());
    assert!(file.allocate(0, 1 << 20).expect_err("struck").is_no_space());
    assert!(fs.open(Path::new("/n"), &how(Create::New)).expect_err("struck").is_no_space());
    file.set_len(4096).expect("needs none");
    fs.remove(Path::new("/f")).expect("needs none");
    assert_eq!(sim.injected_count(), 3);
    sim.set_faults(FaultRates::none());
    sim.set_capacity(sim.used());
    assert!(write(&file, 9, 2, Later).expect_err("full").is_no_space());
    assert_eq!(sim.injected().last().map(|f| f.kind), Some(FaultKind::NoSpace), "a full disk counts, too");
}

#[test]
fn a_short_transfer_goes_on() {
    let (sim, _, file) = machine(1);
    sim.set_faults(only(FaultKind::ShortTransfer));
    let buf = AlignedBuf::from_bytes(&[2; 4 * BLOCK]);
    file.write(0, &[buf.words()], Later).expect("completed");
    let into = AlignedBuf::zeroed(4 * BLOCK);
    file.read(0, &[into.words()]).expect("completed");
    assert!(into.to_vec().iter().all(|&b| b == 2));
    assert!(sim.injected_count() >= 2);
}

#[test]
fn between_the_parts_of_a_short_transfer_other_transfers_come() {
    let mixtures: BTreeSet<Vec<u8>> = (0..60)
        .map(|seed| {
            let (sim, fs, file) = machine(seed);
            sim.set_faults(only(FaultKind::ShortTransfer));
            let (queue, (sender, receiver)) = (queue(&fs, 8), mpsc::channel());
            let transfers = [2u8, 3].map(|byte| {
                let sender = sender.clone();
                let mut transfer = write_transfer(&file, 0, byte, move |result| sender.send(result.is_ok()).expect("received"));
                transfer.buffers = vec![crate::fs::Buffer::Heap(AlignedBuf::from_bytes(&[byte; 3 * BLOCK]))];
                transfer
            });
            queue.submit(transfers.into());
            queue.drain();
            assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [true, true]);
            sim.set_faults(FaultRates::none());
            (0..3).map(|n| block(&file, n).expect("readable")[0]).collect()
        })
        .collect();
    assert!(mixtures.contains(&vec![2, 2, 2]) && mixtures.len() > 3, "{mixtures:?}");
}

#[test]
fn a_crash_leaves_a_short_transfer_half_done() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (sim, fs, file) = machine(seed);
        sim.set_faults(only(FaultKind::ShortTransfer));
        let queue = queue(&fs, 8);
        let mut transfer = write_transfer(&file, 0, 2, |_| {});
        transfer.op = crate::fs::TransferOp::Write(Now);
        transfer.buffers = vec![crate::fs::Buffer::Heap(AlignedBuf::from_bytes(&[2; 2 * BLOCK]))];
        queue.submit(vec![transfer]);
        queue.poll();
        let cut = sim.restart(Restart::PowerCut, SimOptions::new(seed)).fs();
        seen.insert((found(&cut, "/f", 0), found(&cut, "/f", 1)));
    }
    assert!(seen.iter().all(|(first, _)| first == "2"), "the first part was durable: {seen:?}");
    assert!(seen.iter().any(|(_, second)| second == "1") && seen.iter().any(|(_, second)| second == "2"), "{seen:?}");
}

#[test]
fn a_flipped_bit_is_read_once_or_stays() {
    let (mut once, mut stays) = (0, 0);
    for seed in 0..60 {
        let (sim, _, file) = machine(seed);
        sim.set_faults(only(FaultKind::BitFlip));
        assert_eq!(flipped(&block(&file, 1).expect("readable"), 1), 1);
        sim.set_faults(FaultRates::none());
        let again = flipped(&block(&file, 1).expect("readable"), 1);
        let after = sim.restart(Restart::PowerCut, SimOptions::new(seed)).fs();
        let file = open(&after, "/f").expect("there");
        assert_eq!(flipped(&block(&file, 1).expect("readable"), 1), again, "a restart mends nothing");
        *if again == 0 { &mut once } else { &mut stays } += 1;
    }
    assert!(once > 10 && stays > 10, "{once} {stays}");
}

#[test]
fn a_bad_sector_is_unreadable_until_it_is_written() {
    let (sim, _, file) = machine(1);
    sim.set_faults(only(FaultKind::BadSector));
    assert!(is_eio(&sectors(&file, 1)));
    sim.set_faults(FaultRates::none());
    assert!(is_eio(&sectors(&file, 1)), "it stays");
    assert!(sectors(&file, 2).is_ok());
    drop(file);
    let killed = sim.restart(Restart::Kill, SimOptions::new(2));
    let cut = killed.restart(Restart::PowerCut, SimOptions::new(2));
    let file = open(&cut.fs(), "/f").expect("there");
    assert!(is_eio(&sectors(&file, 1)), "restarts mend nothing");
    write(&file, 1, 5, Later).expect("written");
    assert_eq!(sectors(&file, 1).expect("mended"), [5; 8]);
}

#[test]
fn a_lost_write_is_confirmed_and_never_there() {
    let (sim, fs, file) = machine(1);
    sim.set_faults(only(FaultKind::LostWrite));
    write(&file, 1, 2, Now).expect("confirmed");
    write(&file, 5, 2, Later).expect("confirmed");
    file.sync(SyncKind::All).expect("synced");
    assert_eq!([1, 5].map(|n| found(&fs, "/f", n)), ["1", "0"]);
    let cut = sim.restart(Restart::PowerCut, SimOptions::new(1)).fs();
    assert_eq!([1, 5].map(|n| found(&cut, "/f", n)), ["1", "0"]);
}

#[test]
fn a_misdirected_write_lands_on_another_block() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let (sim, _, file) = machine(seed);
        sim.set_faults(only(FaultKind::MisdirectedWrite));
        write(&file, 1, 2, Now).expect("confirmed");
        let cut = sim.restart(Restart::PowerCut, SimOptions::new(seed)).fs();
        seen.insert((0..4).map(|n| found(&cut, "/f", n)).collect::<Vec<_>>().concat());
    }
    assert_eq!(seen, set(["2111", "1111", "1121", "1112"]));
}

#[test]
fn a_lower_limit_leaves_out_the_last_faults_only() {
    let run = |limit| {
        let rates = FaultKind::ALL.iter().fold(FaultRates::none(), |rates, &kind| rates.with(kind, ALWAYS / 8));
        let sim = Sim::new(SimOptions { faults_max: limit, ..SimOptions::new(7).faults(rates) });
        let fs = sim.fs();
        if let Ok(file) = fs.open(Path::new("/f"), &how(Create::New)) {
            (0..40).for_each(|n| drop(write(&file, n % 9, n as u8, Now)));
        }
        sim.injected()
    };
    let all = run(u64::MAX);
    assert!(all.len() > 10, "{all:?}");
    assert_eq!(run(3), all[..3]);
    assert!(run(0).is_empty());
}
