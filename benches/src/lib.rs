//! Criterion micro-benchmarks of Ashlar live in `benches/`.
