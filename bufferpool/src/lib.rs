//! The buffer pool: the engine's own virtual memory. It knows pages, not keys.

mod block_ptr;
mod page_id;
mod store;
mod view;

pub use block_ptr::BlockPtr;
pub use page_id::{Epoch, PageId};
pub use store::{Done, Fate, ImageDesc, Located, PageRead, PageStore, WriteBatch, WriteOrder, WriteOutcome};
pub use view::{PageMut, PageView};
