//! Deliberate mistakes, each of which some harness must notice: a test of the tests. What they are: [`ashlar_tests::mutations`].
//!
//! That recovery follows no flush of an older incarnation can't be tested so: with one flush in flight at a time no crash leaves one
//! behind the log's end. The log's tests of damage make such a log, and the mistake.
//!
//! `ASHLAR_MUTATION_HISTORIES` bounds how many histories may pass before one fails.

use ashlar_tests::mutations::Mutation;
use ashlar_tests::number;

/// The mistake is noticed within the bound; the history that notices it does so every time.
fn is_noticed(name: &str) {
    let bound = number("ASHLAR_MUTATION_HISTORIES", 8000);
    let noticed = Mutation::named(name).run(bound).expect("the mistake went unnoticed");
    println!("{name} is noticed by seed {}: {:.600}", noticed.seed, noticed.failure);
}

macro_rules! tests {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            is_noticed(stringify!($name));
        }
    )*};
}

ashlar_tests::each_mutation!(tests);
