//! The root: made, grown and shrunk. It keeps its page id for life.
//!
//! To grow, the root gives all it holds to a new child and becomes an inner page with that one child; the child is then split
//! like any other page. To shrink, a root with one child takes over all that the child holds.

use super::build::{Blank, Builder};
use super::error::{Stop, TreeError};
use super::write::{Writer, corrupt};
use super::{Observer, Tree, TreeId};
use ashlar_bufferpool::{PageStore, Pool};

impl Tree {
    /// Makes an empty tree.
    ///
    /// # Errors
    /// [`TreeError::Reserve`]: the pool can't give a frame.
    pub fn create<S: PageStore>(pool: &Pool<S>, id: TreeId) -> Result<Tree, TreeError<S::Error>> {
        let mut frames = pool.reserve(1)?;
        let mut root = pool.create(&mut frames);
        let mut builder = Builder::new(pool.page_size());
        builder.start(Blank { tree: id, level: 0, lsn: 0, lower: &[], upper: None });
        let page = root.page();
        builder.install(&mut root, page);
        Ok(Tree { id, root: page, slots_max: 0 })
    }
}

impl<S: PageStore> Writer<'_, S> {
    /// Puts a level between the root and what it holds.
    pub(super) fn grow_root<O: Observer + ?Sized>(&mut self, observer: &mut O) -> Result<(), Stop> {
        let root = self.tree.root;
        let mut drafts = self.take_drafts();
        let mut root_guard = self.exclusive(root)?;
        let node = self.open(root, root_guard.bytes())?;
        let (level, lsn) = (node.level(), node.lsn());
        let Some(level_above) = level.checked_add(1) else { return Err(corrupt(root, "the tree has too many levels")) };
        drafts.left.start_from(&node);
        let mut child_guard = self.create();
        let child = child_guard.page();
        drafts.right.start(Blank { tree: self.tree.id, level: level_above, lsn, lower: &[], upper: None });
        drafts.right.push_first(child);
        if level == 0 {
            observer.moved(root, child, &[], None);
        }
        drafts.left.install(&mut child_guard, child);
        drafts.right.install(&mut root_guard, root);
        drop((child_guard, root_guard));
        self.give_drafts(drafts);
        Ok(())
    }

    /// Takes away the level below the root if the root has a single child there. False: it has not.
    pub(super) fn shrink_root<O: Observer + ?Sized>(&mut self, observer: &mut O) -> Result<bool, Stop> {
        let root = self.tree.root;
        let guard = self.shared(root)?;
        let node = self.open(root, guard.bytes())?;
        if node.is_leaf() || node.count() > 1 {
            return Ok(false);
        }
        let (child, level) = (node.child(0), node.level() - 1);
        drop(guard);
        if level == 0 && !observer.may_free(child) {
            observer.left_sparse(&[]);
            return Ok(false);
        }
        let mut drafts = self.take_drafts();
        let mut root_guard = self.exclusive(root)?;
        let child_guard = self.exclusive(child)?;
        let node = self.open(child, child_guard.bytes())?;
        if node.level() != level || !node.lower_fence().is_empty() || node.upper_fence().is_some() {
            return Err(corrupt(child, "the root's only child is not as wide as the root"));
        }
        drafts.left.start_from(&node);
        if level == 0 {
            observer.moved(child, root, &[], None);
        }
        drafts.left.install(&mut root_guard, root);
        self.pool.free(child_guard);
        drop(root_guard);
        self.give_drafts(drafts);
        Ok(true)
    }
}
