//! Works on a database until it is killed, and tells what it does: the child of the test `killed`.

use ashlar_tests::crash::killed::{Load, load};

fn main() -> std::process::ExitCode {
    match Load::from_words(std::env::args().skip(1)) {
        Some(words) => load(&words),
        None => eprintln!("usage: load-until-killed PATH SEED FIRST-COMMIT"),
    }
    std::process::ExitCode::FAILURE
}
