//! scan: ranges, order, forms; a reader that goes away.

use crate::common::Dir;
use std::io::Read;
use std::process::Stdio;

fn filled() -> Dir {
    let dir = Dir::new();
    dir.pipe("load -T db", "a\n1\nab\n2\nabc\n3\nb\n4\nc\\00\n\\ff\\\\\n").done();
    dir
}

#[test]
fn ranges_and_order() {
    let dir = filled();
    for (options, keys) in [
        ("", "a ab abc b c\\00"),
        ("--reverse", "c\\00 b abc ab a"),
        ("--prefix ab", "ab abc"),
        ("--prefix ab --reverse --limit 1", "abc"),
        ("--prefix x", ""),
        ("--from ab", "ab abc b c\\00"),
        ("--to b", "a ab abc"),
        ("--from ab --to b -r", "abc ab"),
        ("--from ab --to ab", ""),
        ("-n 2", "a ab"),
        ("--limit 0", ""),
        ("--hex --from 6162 --to 62", "6162 616263"),
    ] {
        let found = dir.run(&format!("scan db --keys-only {options}")).done();
        assert_eq!(found.lines().collect::<Vec<_>>(), keys.split_whitespace().collect::<Vec<_>>(), "{options}");
    }
}

#[test]
fn entries_are_lines_in_three_forms() {
    let dir = filled();
    assert_eq!(dir.run("scan db --from b").done(), "b\t4\nc\\00\t\\ff\\5c\n");
    assert_eq!(dir.run("scan db --from 62 --hex").done(), "62\t34\n6300\tff5c\n");
    assert_eq!(
        dir.run("scan db --from b --json").done(),
        "{\"key\":\"b\",\"value\":\"4\"}\n{\"key\":\"c\\u0000\",\"value_hex\":\"ff5c\"}\n"
    );
    assert_eq!(dir.run("scan db --to 6161 --json --keys-only --hex").done(), "{\"key_hex\":\"61\"}\n");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let dir = Dir::new();
    let text: String = (0..50_000).map(|i| format!("{i:08}\nvalue {i}\n")).collect();
    dir.pipe("load -T db", text).done();
    for words in ["scan db", "scan db --json", "dump db"] {
        let mut command = dir.command();
        let mut child = command.args(words.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 100]).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]), "{words}");
    }
}
