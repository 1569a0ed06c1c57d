//! The command `ashlar`.

fn main() {}
