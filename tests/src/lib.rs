//! Models, workloads and the crash harness of Ashlar, for its integration tests.
