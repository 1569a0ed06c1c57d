//! Which leaves come next in a scan, for reading them ahead: told by the pages above them, without a look at the leaves.
//!
//! A list ends with the last child of its parent at the latest, and says from which key on the next list follows. So what is asked for
//! goes on from parent to parent, and each leaf is listed once.

use super::error::Stop;
use super::node::{Fault, Node};
use super::read::{RESTARTS_MAX, wrong};
use super::{Seek, Tree};
use ashlar_bufferpool::{PageId, PageStore, PageView, Pool};

/// Leaves that come next. Its memory is used again for the next list.
#[derive(Clone, Debug, Default)]
pub struct Upcoming {
    /// In the order of the scan; empty where writers kept disturbing: this is advice, not an answer.
    pub pages: Vec<PageId>,
    /// Where the list of those behind them begins: at this key for a scan forwards, right below it for one backwards. `None`: no leaf
    /// is behind them.
    pub next: Option<Vec<u8>>,
}

impl Upcoming {
    /// An empty list.
    pub fn new() -> Upcoming {
        Upcoming::default()
    }

    /// Lists children of `node` from `from` on, upwards.
    fn upwards(&mut self, node: &Node<PageView<'_>>, from: usize, max: usize) -> Result<(), Fault> {
        let end = node.count().min(from.saturating_add(max));
        self.pages.extend((from..end).map(|index| node.child(index)));
        let next = self.next.get_or_insert_default();
        let is_there = if end < node.count() { node.key_into(end, next).map(|()| true) } else { node.upper_fence_into(next) };
        self.keep_next_if(is_there)
    }

    /// Lists children of `node` from `from` on, downwards.
    fn downwards(&mut self, node: &Node<PageView<'_>>, from: usize, max: usize) -> Result<(), Fault> {
        let end = (from + 1).saturating_sub(max);
        self.pages.extend((end..=from).rev().map(|index| node.child(index)));
        let next = self.next.get_or_insert_default();
        // Slot 0 has no key of its own: it stands for the page's lower fence.
        let told = if end > 0 { node.key_into(end, next) } else { node.lower_fence_into(next) };
        let is_there = told.map(|()| !next.is_empty());
        self.keep_next_if(is_there)
    }

    fn keep_next_if(&mut self, is_there: Result<bool, Fault>) -> Result<(), Fault> {
        if !is_there? {
            self.next = None;
        }
        Ok(())
    }
}

impl Tree {
    /// The leaf in which `key` lies and those after it, as many as stand under the same parent and at most `max` (at least 1).
    ///
    /// # Errors
    /// As [`Tree::get`]: an inner page is missing or wrong. The leaves themselves are not looked at.
    pub fn leaves_from<S: PageStore>(&self, pool: &Pool<S>, key: &[u8], max: usize, out: &mut Upcoming) -> Result<(), Stop> {
        self.upcoming(pool, Seek::AtOrAfter(key), out, |out, node, index| out.upwards(node, index, max))
    }

    /// The leaf in which the keys right below `key` lie and those before it, likewise.
    ///
    /// # Errors
    /// As [`Tree::leaves_from`].
    pub fn leaves_before<S: PageStore>(&self, pool: &Pool<S>, key: &[u8], max: usize, out: &mut Upcoming) -> Result<(), Stop> {
        self.upcoming(pool, Seek::Before(key), out, |out, node, index| out.downwards(node, index, max))
    }

    fn upcoming<S: PageStore>(
        &self,
        pool: &Pool<S>,
        seek: Seek<'_>,
        out: &mut Upcoming,
        list: impl Fn(&mut Upcoming, &Node<PageView<'_>>, usize) -> Result<(), Fault>,
    ) -> Result<(), Stop> {
        for _ in 0..RESTARTS_MAX {
            out.pages.clear();
            let Some(above) = self.try_above_leaf(pool, seek)? else { continue };
            let Some((above, turn)) = above else {
                out.pages.push(self.root);
                out.next = None;
                return Ok(());
            };
            let listed = Node::open(above.view(), self.id).and_then(|node| list(out, &node, turn.index));
            match listed {
                Ok(()) if above.validate() => return Ok(()),
                Ok(()) => {}
                Err(what) => drop(wrong::<()>(&above, what)?),
            }
        }
        out.pages.clear();
        Ok(())
    }
}
