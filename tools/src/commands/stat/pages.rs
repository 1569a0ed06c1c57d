//! What `ashlar stat --pages` adds: pages by kind, and how full they are.

use crate::error::Result;
use crate::output::Output;
use crate::progress::Progress;
use crate::units::{bytes, count, counted};
use ashlardb::{Database, PageCount, Shape, TreeShape};
use serde_json::{Value, json};

/// The shape of a database, and the size of its pages.
pub(super) struct Pages {
    shape: Shape,
    page_size: usize,
}

impl Pages {
    /// Reads every page of every tree.
    pub(super) fn of(db: &Database, out: &Output) -> Result<Pages> {
        let mut progress = Progress::new(out, "reading pages", None);
        Ok(Pages { shape: db.shape(|walk| progress.reach(walk))?, page_size: db.page_size() })
    }

    /// A table of all trees taken together; the first line is its head.
    pub(super) fn table(&self) -> Vec<String> {
        let row = |kind: &str, number: String, used: String, fill: String| {
            format!("{kind:<9}{number:>12}{used:>13}{fill:>8}").trim_end().to_owned()
        };
        let total = self.shape.total();
        let mut rows = vec![row("kind", "number".into(), "in use".into(), "fill".into())];
        for (kind, pages) in [("leaf", total.leaves), ("inner", total.inner), ("overflow", total.overflow)] {
            rows.push(row(kind, count(pages.pages), bytes(pages.used), self.percent(pages).unwrap_or_default()));
        }
        rows.push(row("blob run", count(total.blob_runs.pages), bytes(total.blob_runs.used), String::new()));
        rows.push(row("map", count(self.shape.map_nodes), String::new(), String::new()));
        let dropped = self.shape.dropped.pages();
        if dropped > 0 {
            let pages = counted(dropped, "page or run", "pages and runs");
            rows.push(format!("of these, {pages} in dropped trees, not freed yet"));
        }
        rows
    }

    /// The kinds of pages that a keyspace has, in words.
    pub(super) fn of_keyspace(&self, name: &str) -> Option<String> {
        let tree = self.shape.keyspaces.get(name)?;
        let full = |pages: PageCount, one: &str, many: &str| Some((counted(pages.pages, one, many), self.percent(pages)?));
        let leaves = full(tree.leaves, "leaf", "leaves");
        let inner = full(tree.inner, "inner page", "inner pages");
        let overflow = full(tree.overflow, "overflow page", "overflow pages");
        let mut parts: Vec<String> =
            [leaves, inner, overflow].into_iter().flatten().map(|(pages, fill)| format!("{pages} {fill} full")).collect();
        if tree.blob_runs.pages > 0 {
            let runs = counted(tree.blob_runs.pages, "blob run", "blob runs");
            parts.push(format!("{runs} with {}", bytes(tree.blob_runs.used)));
        }
        Some(parts.join(", "))
    }

    fn percent(&self, pages: PageCount) -> Option<String> {
        pages.fill(self.page_size).map(|fill| format!("{:.0} %", fill * 100.0))
    }

    /// All trees taken together, and what is in none of a keyspace.
    pub(super) fn object(&self) -> Value {
        let mut object = self.tree(&self.shape.total());
        object["map"] = json!({ "pages": self.shape.map_nodes });
        object["catalog"] = self.tree(&self.shape.catalog);
        object["dropped"] = self.tree(&self.shape.dropped);
        object
    }

    /// The same of a keyspace.
    pub(super) fn object_of(&self, name: &str) -> Option<Value> {
        self.shape.keyspaces.get(name).map(|tree| self.tree(tree))
    }

    fn tree(&self, tree: &TreeShape) -> Value {
        let kind = |pages: PageCount| {
            let fill = pages.fill(self.page_size).map(|fill| (fill * 1000.0).round() / 1000.0);
            json!({ "pages": pages.pages, "used_bytes": pages.used, "fill": fill })
        };
        json!({
            "leaf": kind(tree.leaves),
            "inner": kind(tree.inner),
            "overflow": kind(tree.overflow),
            "blob_run": { "runs": tree.blob_runs.pages, "value_bytes": tree.blob_runs.used },
        })
    }
}
