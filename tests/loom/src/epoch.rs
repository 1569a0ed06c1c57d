//! Stands in for `crossbeam::epoch`: pointers that loom watches, and freeing as early as the contract allows.
//!
//! crossbeam-epoch has support for loom itself, but it explores its own queues and counters with everything else, and needs a flag of
//! the compiler for all crates. What it promises is simple: what was deferred runs when everybody who was pinned then is unpinned.
//! Here it runs exactly then, so that whatever is used later than allowed is met.
//!
//! 1. What a shared pointer names must be alive when it is looked at: a table knows every allocation, and its entry goes with it.
//! 2. Looking at it must happen after it was made (a loom cell, written when it is made and read when it is looked at).
//! 3. Pinning and deferring are each one step with a `SeqCst` fence, as in the real one: whoever is pinned after something was
//!    deferred sees that it was taken out before. How the real one comes to that is not checked here.

use crate::mutation::{self, Mutated};
use crate::sync::atomic::Ordering;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicPtr, fence};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::rc::Rc;

struct Allocation {
    id: u64,
    size: usize,
    made: Rc<UnsafeCell<()>>,
}

struct Deferred {
    waits_for: BTreeSet<u64>,
    run: Box<dyn FnOnce()>,
}

#[derive(Default)]
struct State {
    last: u64,
    pinned: BTreeSet<u64>,
    deferred: Vec<Deferred>,
    /// By address.
    allocations: BTreeMap<usize, Allocation>,
}

thread_local! {
    /// All threads of a model run on one thread of the system.
    static STATE: RefCell<State> = RefCell::default();
}

/// Forgets everything: a model begins.
pub fn begin() {
    STATE.take();
}

/// A model has ended: all that was made is gone, and nobody is pinned.
pub fn end() {
    let state = STATE.take();
    assert!(state.pinned.is_empty() && state.deferred.is_empty() && state.allocations.is_empty(), "something is left");
}

/// Keeps what could be found meanwhile.
#[derive(Debug)]
pub struct Guard {
    /// 0: does not.
    number: u64,
}

/// Pins the thread.
pub fn pin() -> Guard {
    let guard = STATE.with_borrow_mut(|state| {
        state.last += 1;
        state.pinned.insert(state.last);
        Guard { number: state.last }
    });
    fence(Ordering::SeqCst);
    guard
}

/// A guard that keeps nothing.
///
/// # Safety
/// Nobody else reaches what is loaded under it.
pub unsafe fn unprotected() -> &'static Guard {
    static NONE: Guard = Guard { number: 0 };
    &NONE
}

impl Guard {
    /// Runs `run` when all who are pinned now no longer are.
    ///
    /// # Safety
    /// As of the real one.
    #[track_caller]
    pub unsafe fn defer_unchecked<R>(&self, run: impl FnOnce() -> R + 'static) {
        if mutation::here() != Mutated::No {
            run();
            return;
        }
        fence(Ordering::SeqCst);
        let run = Box::new(move || drop(run()));
        STATE.with_borrow_mut(|state| state.deferred.push(Deferred { waits_for: state.pinned.clone(), run }));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let due = STATE.with_borrow_mut(|state| {
            state.pinned.remove(&self.number);
            for deferred in &mut state.deferred {
                deferred.waits_for.remove(&self.number);
            }
            let (due, later) = std::mem::take(&mut state.deferred).into_iter().partition(|d| d.waits_for.is_empty());
            state.deferred = later;
            due
        });
        if !std::thread::panicking() {
            Vec::into_iter(due).for_each(|deferred| (deferred.run)());
        }
    }
}

/// A value that nobody else can find yet.
pub struct Owned<T>(*mut T);

impl<T> Owned<T> {
    /// A value.
    pub fn new(value: T) -> Owned<T> {
        let pointer = Box::into_raw(Box::new(value));
        let made = Rc::new(UnsafeCell::new(()));
        made.with_mut(|_| ());
        STATE.with_borrow_mut(|state| {
            state.last += 1;
            let allocation = Allocation { id: state.last, size: size_of::<T>(), made };
            assert!(state.allocations.insert(pointer.addr(), allocation).is_none(), "made twice");
        });
        Owned(pointer)
    }
}

/// A pointer that was found under a guard.
pub struct Shared<'g, T> {
    pointer: *const T,
    /// Of the allocation, when it was found.
    id: u64,
    _guard: PhantomData<&'g Guard>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

impl<'g, T> Shared<'g, T> {
    /// None.
    pub fn null() -> Shared<'g, T> {
        Shared { pointer: std::ptr::null(), id: 0, _guard: PhantomData }
    }

    /// The address.
    pub fn as_raw(&self) -> *const T {
        self.pointer
    }

    /// What it names.
    ///
    /// # Safety
    /// As of the real one; here it is checked.
    pub unsafe fn as_ref(&self) -> Option<&'g T> {
        if self.pointer.is_null() {
            return None;
        }
        let found = STATE.with_borrow(|state| {
            let allocation = state.allocations.get(&self.pointer.addr())?;
            Some((allocation.id, Rc::clone(&allocation.made)))
        });
        let Some((id, made)) = found else { panic!("looked at after it was freed") };
        assert_eq!(id, self.id, "looked at after it was freed, and something else made there");
        made.with(|_| ());
        // SAFETY: it is alive.
        Some(unsafe { &*self.pointer })
    }
}

/// What can be stored.
pub trait Pointer<T> {
    /// Its address.
    fn into_raw(self) -> *mut T;
}

impl<T> Pointer<T> for Owned<T> {
    fn into_raw(self) -> *mut T {
        self.0
    }
}

impl<T> Pointer<T> for Shared<'_, T> {
    fn into_raw(self) -> *mut T {
        self.pointer.cast_mut()
    }
}

/// A pointer that many see.
pub struct Atomic<T>(AtomicPtr<T>);

impl<T> Atomic<T> {
    /// To nothing.
    pub fn null() -> Atomic<T> {
        Atomic(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// What it points to.
    #[track_caller]
    pub fn load<'g>(&self, order: Ordering, _guard: &'g Guard) -> Shared<'g, T> {
        let pointer = self.0.load(mutated(order).unwrap_or(Ordering::Relaxed));
        let id = STATE.with_borrow(|state| state.allocations.get(&pointer.addr()).map_or(0, |allocation| allocation.id));
        Shared { pointer, id, _guard: PhantomData }
    }

    /// Makes it point there.
    #[track_caller]
    pub fn store(&self, pointer: impl Pointer<T>, order: Ordering) {
        if let Some(order) = mutated(order) {
            self.0.store(pointer.into_raw(), order);
        }
    }
}

#[track_caller]
fn mutated(order: Ordering) -> Option<Ordering> {
    match mutation::here() {
        Mutated::No => Some(order),
        Mutated::To(weaker) => Some(weaker),
        Mutated::LeftOut => None,
    }
}

impl<T> Default for Atomic<T> {
    fn default() -> Atomic<T> {
        Atomic::null()
    }
}

impl<T> Drop for Atomic<T> {
    /// Goes with the allocation that it is part of.
    fn drop(&mut self) {
        let address = std::ptr::from_ref(self).addr();
        STATE.with_borrow_mut(|state| {
            let around = state.allocations.range(..=address).next_back();
            if let Some((&start, allocation)) = around
                && address < start + allocation.size
            {
                state.allocations.remove(&start);
            }
        });
    }
}
