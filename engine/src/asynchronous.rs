//! Reads and commits for callers that don't wait: plain futures, for any executor.
//!
//! A look-up in memory is answered at once, in `poll`. One that misses starts the read of the page that it misses and leaves a waker with
//! it: so one thread has as many reads in flight as it has futures. What may block otherwise is a job of the [`attendant`].
//!
//! Invariants:
//! 1. A future owns what it needs; dropping it drops only the answer.
//! 2. `poll` never waits, but with [`Background::Manual`](crate::Background::Manual), where nobody else would do the work.

use crate::attendant::{self, Answer};
use crate::btree::Stop;
use crate::database::Database;
use crate::error::{Corruption, Error, Result};
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::read::View;
use crate::snapshot::Snapshot;
use crate::txn::Transaction;
use crate::value::Value;
use crate::value::fetch::Stored;
use ashlar_bufferpool::Watch;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Keys whose pages are being read at once, at most.
const WINDOW: usize = 64;

/// Pages that one look-up may miss, far more than there are between a root and a leaf.
const MISSES_MAX: usize = 64;

/// A read of one key that is under way; see [`Keyspace::get_async`].
#[must_use = "a future does nothing unless it is polled"]
pub struct GetFuture {
    keyspace: Keyspace,
    key: Vec<u8>,
    view: Option<Arc<View<Database>>>,
    watch: Option<Watch<Error>>,
    misses: usize,
    answer: Option<Answer<Result<Option<Value>>>>,
}

/// What a look-up without waiting has come to.
enum Looked {
    Answer(Result<Option<Value>>),
    /// It waits for a page.
    Waits,
    /// The rest may block.
    MayBlock,
}

impl Keyspace {
    /// As [`Keyspace::get`], for a caller that does not wait.
    pub fn get_async(&self, key: impl AsRef<[u8]>) -> GetFuture {
        GetFuture::new(self.clone(), key.as_ref().to_vec(), None)
    }

    /// As [`Keyspace::get_many`], for a caller that does not wait.
    pub fn get_many_async<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> GetManyFuture {
        GetManyFuture::new(self.clone(), None, keys)
    }
}

impl Snapshot {
    /// As [`Snapshot::get`], for a caller that does not wait.
    pub fn get_async(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> GetFuture {
        GetFuture::new(keyspace.clone(), key.as_ref().to_vec(), Some(self.view().clone()))
    }

    /// As [`Snapshot::get_many`], for a caller that does not wait.
    pub fn get_many_async<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, keys: impl IntoIterator<Item = K>) -> GetManyFuture {
        GetManyFuture::new(keyspace.clone(), Some(self.view().clone()), keys)
    }
}

impl std::fmt::Debug for GetFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GetFuture").field("keyspace", &self.keyspace.name()).finish_non_exhaustive()
    }
}

impl GetFuture {
    fn new(keyspace: Keyspace, key: Vec<u8>, view: Option<Arc<View<Database>>>) -> GetFuture {
        GetFuture { keyspace, key, view, watch: None, misses: 0, answer: None }
    }

    /// Looks, as far as that goes without waiting.
    fn look(&mut self, cx: &mut Context<'_>) -> Looked {
        let shared = self.keyspace.shared().clone();
        if self.view.is_none() {
            if shared.visible.own() > shared.visible.watermark() {
                return Looked::MayBlock;
            }
            match View::newest(self.keyspace.database().clone()) {
                Ok(view) => self.view = Some(Arc::new(view)),
                Err(e) => return Looked::Answer(Err(e)),
            }
        }
        let Some(view) = self.view.clone() else { return Looked::MayBlock };
        if !std::ptr::eq(view.shared(), &*shared) {
            return Looked::Answer(Err(Error::NoSuchKeyspace { name: self.keyspace.name().to_owned() }));
        }
        let tree = match view.tree(self.keyspace.state()) {
            Ok(tree) => tree,
            Err(e) => return Looked::Answer(Err(e)),
        };
        loop {
            if let Some(watch) = &self.watch {
                match watch.poll(cx.waker()) {
                    None => return Looked::Waits,
                    Some(Err(e)) => return Looked::Answer(Err(e)),
                    Some(Ok(())) => self.watch = None,
                }
            }
            let page = match view.look(tree, &self.key, Value::copy_of) {
                Ok((found, _)) => {
                    return match view.checked(Ok(found)) {
                        Ok(None) => Looked::Answer(Ok(None)),
                        Ok(Some(Stored::Inline(value))) => Looked::Answer(Ok(Some(value))),
                        Ok(Some(Stored::Elsewhere { .. })) => Looked::MayBlock,
                        Err(e) => Looked::Answer(Err(e)),
                    };
                }
                Err(Stop::Missing(page)) => page,
                Err(Stop::Corrupt(corrupt)) => {
                    let error = Corruption::page(corrupt.page.0, Some(tree.id.0), corrupt.what);
                    return Looked::Answer(view.checked(Err(error.into())));
                }
            };
            self.misses += 1;
            if self.misses > MISSES_MAX {
                return Looked::MayBlock;
            }
            let pool = view.pool();
            pool.prefetch(&[page]);
            self.watch = pool.watch(page);
            // No frame could be had at once, or the page was there and is gone again.
            if self.watch.is_none() && !pool.is_resident(page) {
                return Looked::MayBlock;
            }
            if let Err(e) = shared.attend_reads() {
                return Looked::Answer(Err(e));
            }
        }
    }

    /// Has the attendant do it.
    fn hand_over(&mut self) -> Result<Answer<Result<Option<Value>>>> {
        let (answer, debt) = attendant::answer();
        let (keyspace, key, view) = (self.keyspace.clone(), std::mem::take(&mut self.key), self.view.take());
        let job = move || {
            let found = match &view {
                Some(view) => view.tree(keyspace.state()).and_then(|tree| Ok(view.get(tree, &key, Value::copy_of)?.0)),
                None => keyspace.get(&key),
            };
            debt.pay(found);
        };
        self.keyspace.shared().attend(job)?;
        Ok(answer)
    }
}

impl Future for GetFuture {
    type Output = Result<Option<Value>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.answer.is_none() {
            match self.look(cx) {
                Looked::Answer(answer) => return Poll::Ready(answer),
                Looked::Waits => return Poll::Pending,
                Looked::MayBlock => match self.hand_over() {
                    Ok(answer) => self.answer = Some(answer),
                    Err(e) => return Poll::Ready(Err(e)),
                },
            }
        }
        match &mut self.answer {
            Some(answer) => Pin::new(answer).poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Reads of many keys that are under way; see [`Keyspace::get_many_async`].
#[must_use = "a future does nothing unless it is polled"]
#[derive(Debug)]
pub struct GetManyFuture {
    keyspace: Keyspace,
    view: Option<Arc<View<Database>>>,
    /// Keys that are not asked for yet, the next one first.
    left: VecDeque<Vec<u8>>,
    active: Vec<(usize, GetFuture)>,
    out: Vec<Option<Value>>,
    next: usize,
    failed: Option<Error>,
}

impl GetManyFuture {
    fn new<K: AsRef<[u8]>>(
        keyspace: Keyspace,
        view: Option<Arc<View<Database>>>,
        keys: impl IntoIterator<Item = K>,
    ) -> GetManyFuture {
        let left: VecDeque<Vec<u8>> = keys.into_iter().map(|key| key.as_ref().to_vec()).collect();
        let mut out = Vec::new();
        out.resize_with(left.len(), || None);
        let (view, failed) = match view.map_or_else(|| View::newest(keyspace.database().clone()).map(Arc::new), Ok) {
            Ok(view) => (Some(view), None),
            Err(error) => (None, Some(error)),
        };
        GetManyFuture { keyspace, view, left, active: Vec::new(), out, next: 0, failed }
    }
}

impl Future for GetManyFuture {
    type Output = Result<Vec<Option<Value>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(error) = this.failed.take() {
            return Poll::Ready(Err(error));
        }
        loop {
            while this.active.len() < WINDOW
                && let Some(key) = this.left.pop_front()
            {
                this.active.push((this.next, GetFuture::new(this.keyspace.clone(), key, this.view.clone())));
                this.next += 1;
            }
            let before = this.active.len();
            let mut at = 0;
            while at < this.active.len() {
                let (index, future) = &mut this.active[at];
                match Pin::new(future).poll(cx) {
                    Poll::Ready(Ok(value)) => {
                        this.out[*index] = value;
                        drop(this.active.swap_remove(at));
                    }
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                    Poll::Pending => at += 1,
                }
            }
            if this.active.is_empty() && this.left.is_empty() {
                return Poll::Ready(Ok(std::mem::take(&mut this.out)));
            }
            if this.active.len() == before || this.left.is_empty() {
                return Poll::Pending;
            }
        }
    }
}

/// A commit that is under way; see [`Transaction::commit_async`].
#[must_use = "it tells how the commit ended"]
pub struct CommitFuture {
    answer: std::result::Result<Answer<Result<()>>, Option<Error>>,
}

impl std::fmt::Debug for CommitFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CommitFuture")
    }
}

impl Transaction {
    /// As [`Transaction::commit_with`], for a caller that does not wait. The commit begins at once, whether or not the future is
    /// polled; dropping that drops only the answer. Commits that are under way at the same time share flushes of the log.
    pub fn commit_async(self, durability: Durability) -> CommitFuture {
        let shared = self.database().shared().clone();
        let (answer, debt) = attendant::answer();
        let job = {
            let shared = shared.clone();
            move || {
                self.commit_undurably(durability, move |lsn, outcome| {
                    shared.when_visible(lsn, move |visible| debt.pay(ended(outcome, visible)));
                })
            }
        };
        CommitFuture { answer: shared.attend(job).map(|()| answer).map_err(Some) }
    }
}

/// How a commit ended. Where the database has failed, what was read may not survive: that counts more than a conflict.
fn ended(outcome: Result<()>, visible: Result<()>) -> Result<()> {
    match (outcome, visible) {
        (Err(unknown @ Error::OutcomeUnknown { .. }), _) => Err(unknown),
        (Err(_), Err(Error::OutcomeUnknown { cause })) => Err(Error::ReadOnly { cause }),
        (Err(e), _) => Err(e),
        (Ok(()), visible) => visible,
    }
}

impl Future for CommitFuture {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.answer {
            Ok(answer) => Pin::new(answer).poll(cx),
            Err(error) => error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
        }
    }
}
