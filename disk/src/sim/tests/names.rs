//! Names across power cuts.

use super::*;

fn names(fs: &SimFs, dir: &str) -> String {
    fs.list(Path::new(dir)).map_or("gone".into(), |names| names.join(" "))
}

#[test]
fn a_created_name_may_be_gone_until_its_directory_is_synced() {
    let unsynced = |fs: &SimFs| create(fs, "/f").sync(SyncKind::All).expect("synced");
    assert_eq!(after_power_cuts(unsynced, |fs| names(fs, "/")), set(["", "f"]));
    let synced = |fs: &SimFs| drop(durable_file(fs, "/f", 1, 1));
    assert_eq!(after_power_cuts(synced, |fs| found(fs, "/f", 0)), set(["1"]));
}

#[test]
fn a_durable_name_says_nothing_about_the_data() {
    let build = |fs: &SimFs| {
        write(&create(fs, "/f"), 0, 1, Durability::Later).expect("written");
        fs.sync_dir(Path::new("/")).expect("synced");
    };
    assert_eq!(after_power_cuts(build, |fs| found(fs, "/f", 0)), set(["short", "0", "1", "0+1"]));
}

#[test]
fn an_unsynced_rename_is_done_or_undone_and_never_both_or_neither() {
    let build = |sync: bool| {
        move |fs: &SimFs| {
            durable_file(fs, "/new", 1, 2);
            durable_file(fs, "/f", 1, 1);
            fs.rename(Path::new("/new"), Path::new("/f")).expect("renamed");
            if sync {
                fs.sync_dir(Path::new("/")).expect("synced");
            }
        }
    };
    let look = |fs: &SimFs| names(fs, "/") + ": " + &found(fs, "/f", 0);
    assert_eq!(after_power_cuts(build(false), look), set(["f new: 1", "f: 2"]));
    assert_eq!(after_power_cuts(build(true), look), set(["f: 2"]));
}

#[test]
fn an_unsynced_removal_may_be_undone() {
    let build = |fs: &SimFs| {
        drop(durable_file(fs, "/f", 1, 1));
        fs.remove(Path::new("/f")).expect("removed");
        assert_eq!(names(fs, "/"), "");
    };
    assert_eq!(after_power_cuts(build, |fs| found(fs, "/f", 0)), set(["1", "gone"]));
}

#[test]
fn changes_of_one_name_survive_in_their_order() {
    let build = |fs: &SimFs| {
        durable_file(fs, "/a", 1, 1);
        fs.remove(Path::new("/a")).expect("removed");
        let file = create(fs, "/b");
        write(&file, 0, 2, Durability::Later).expect("written");
        file.sync(SyncKind::All).expect("synced");
        fs.rename(Path::new("/b"), Path::new("/a")).expect("renamed");
    };
    let look = |fs: &SimFs| names(fs, "/") + ": " + &found(fs, "/a", 0);
    assert_eq!(after_power_cuts(build, look), set(["a: 1", "a b: 1", ": gone", "b: gone", "a: 2"]));
}

#[test]
fn a_name_used_again_does_not_cost_the_file_that_had_it() {
    let build = |fs: &SimFs| {
        durable_file(fs, "/a", 1, 1);
        fs.rename(Path::new("/a"), Path::new("/b")).expect("renamed");
        let file = create(fs, "/a");
        write(&file, 0, 2, Durability::Later).expect("written");
        file.sync(SyncKind::All).expect("synced");
    };
    let look = |fs: &SimFs| found(fs, "/a", 0) + " " + &found(fs, "/b", 0);
    assert_eq!(after_power_cuts(build, look), set(["1 gone", "gone 1", "2 1"]));
}

#[test]
fn a_directory_that_its_parent_does_not_know_takes_its_files_with_it() {
    let build = |sync_parent: bool| {
        move |fs: &SimFs| {
            fs.create_dir(Path::new("/db")).expect("made");
            durable_file(fs, "/db/f", 1, 1);
            if sync_parent {
                fs.sync_dir(Path::new("/")).expect("synced");
            }
        }
    };
    assert_eq!(after_power_cuts(build(false), |fs| found(fs, "/db/f", 0)), set(["1", "gone"]));
    assert_eq!(after_power_cuts(build(true), |fs| found(fs, "/db/f", 0)), set(["1"]));
}

#[test]
fn a_rename_between_directories_needs_both_synced() {
    let build = |synced: &'static [&'static str]| {
        move |fs: &SimFs| {
            fs.create_dir(Path::new("/a")).expect("made");
            fs.create_dir(Path::new("/b")).expect("made");
            fs.sync_dir(Path::new("/")).expect("synced");
            durable_file(fs, "/a/f", 1, 1);
            fs.rename(Path::new("/a/f"), Path::new("/b/f")).expect("renamed");
            synced.iter().for_each(|dir| fs.sync_dir(Path::new(dir)).expect("synced"));
        }
    };
    let look = |fs: &SimFs| found(fs, "/a/f", 0) + " " + &found(fs, "/b/f", 0);
    for one in [&["/a"], &["/b"]] {
        assert_eq!(after_power_cuts(build(one), look), set(["1 gone", "gone 1"]));
    }
    assert_eq!(after_power_cuts(build(&["/a", "/b"]), look), set(["gone 1"]));
}

#[test]
fn a_durable_change_makes_the_earlier_ones_of_its_names_durable() {
    let build = |fs: &SimFs| {
        fs.create_dir(Path::new("/a")).expect("made");
        fs.sync_dir(Path::new("/")).expect("synced");
        durable_file(fs, "/a/f", 1, 1);
        fs.rename(Path::new("/a/f"), Path::new("/f")).expect("renamed");
        fs.remove(Path::new("/f")).expect("removed");
        fs.sync_dir(Path::new("/")).expect("synced");
    };
    assert_eq!(after_power_cuts(build, |fs| found(fs, "/a/f", 0) + " " + &found(fs, "/f", 0)), set(["gone gone"]));
}

#[test]
fn changes_that_are_not_of_one_name_survive_in_any_order() {
    let build = |fs: &SimFs| {
        create(fs, "/a");
        create(fs, "/b");
    };
    assert_eq!(after_power_cuts(build, |fs| names(fs, "/")), set(["", "a", "b", "a b"]));
}

#[test]
fn an_open_file_outlives_its_name() {
    let sim = Sim::new(SimOptions::new(1));
    let fs = sim.fs();
    let file = durable_file(&fs, "/f", 1, 7);
    fs.remove(Path::new("/f")).expect("removed");
    fs.sync_dir(Path::new("/")).expect("synced");
    assert_eq!(sectors(&file, 0).expect("read"), [7; 8]);
    let other = create(&fs, "/f");
    assert_eq!(other.len().expect("a length"), 0);
    drop(file);
    assert_eq!(sim.disk.lock().inodes.len(), 1);
    fs.remove(Path::new("/f")).expect("removed");
    fs.sync_dir(Path::new("/")).expect("synced");
    let sim = sim.restart(Restart::Kill, SimOptions::new(1));
    assert!(sim.disk.lock().inodes.is_empty(), "a crash closes all files");
    drop(other);
}
