//! The buffer pool's policy: the real one (`bufferpool/src/policy.rs`, see `ashlar_benches::pool_policy`), not a model of it.

use super::Cache;
pub(crate) use ashlar_benches::pool_policy::{How, PoolPolicy};

impl Cache for PoolPolicy {
    fn access(&mut self, page: u32) -> bool {
        PoolPolicy::access(self, page)
    }

    fn resident(&self) -> usize {
        PoolPolicy::resident(self)
    }
}
