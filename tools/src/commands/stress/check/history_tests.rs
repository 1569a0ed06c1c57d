//! Whether the check finds what it is to find: histories of two writers, and states that some of their commits would have left.

use super::super::journal::Event;
use super::super::ops::{Form, Op, Shape, Size};
use super::history::History;
use super::state::{Compared, Entries, State};

const SEED: u64 = 77;
const LIFE: u32 = 1;

fn op(writer: u8, number: u32) -> Op {
    Op::draw(SEED, LIFE, writer, number, &Shape::draw(SEED, LIFE, Size::Small))
}

/// The first commits of each writer, in the order in which they are told: `(writer, number)`.
fn state_after(commits: &[(u8, u32)]) -> State {
    let mut state = State::default();
    for writer in 0..2 {
        let mut made = Compared::new(Entries::new(), Entries::new());
        commits.iter().filter(|(w, _)| *w == writer).for_each(|&(_, n)| made.apply(writer, n, &op(writer, n)));
        state.entries.extend(made.entries().clone());
    }
    for &(writer, number) in commits {
        if let Form::Transaction { from, to, amount } = op(writer, number).form {
            state.turns += 1;
            state.accounts[from] -= amount;
            state.accounts[to] += amount;
            state.marks.insert(writer, (number, state.turns));
        }
    }
    state
}

/// Both writers by turns; each commit ends before the next begins, and is told as `Immediate` where `immediate` says so.
fn told(commits: u32, immediate: impl Fn(u8, u32) -> bool) -> (Vec<Event>, Vec<(u8, u32)>) {
    let (mut events, mut order, mut turn) = (vec![Event::Opened { life: LIFE }], Vec::new(), 0);
    for number in 1..=commits {
        for writer in 0..2 {
            events.push(Event::Began { writer, number, life: LIFE });
            let counts = matches!(op(writer, number).form, Form::Transaction { .. });
            turn += u64::from(counts);
            events.push(Event::Ended { writer, number, immediate: immediate(writer, number), turn: counts.then_some(turn) });
            order.push((writer, number));
        }
    }
    (events, order)
}

fn settle(events: &[Event], found: State) -> Result<u64, String> {
    let mut history = History::new(SEED, Size::Small);
    history.hear_all(events.iter().copied());
    history.settle(found).map(|survivors| survivors.commits)
}

#[track_caller]
fn is_found(events: &[Event], found: State, part: &str) {
    let text = settle(events, found).expect_err(part);
    assert!(text.contains(part), "{part:?} is missing in: {text}");
}

#[test]
fn every_prefix_of_the_order_is_right() {
    let (events, order) = told(60, |_, _| false);
    for there in 0..=order.len() {
        let commits = settle(&events, state_after(&order[..there])).unwrap_or_else(|e| panic!("{there}: {e}"));
        // Commits that change nothing may count for more.
        assert!(commits >= there as u64, "{commits} of {there}");
    }
}

#[test]
fn what_was_confirmed_must_be_there() {
    let (mut events, order) = told(40, |writer, number| (writer, number) == (1, 30));
    let at = order.iter().position(|c| *c == (1, 30)).unwrap();
    settle(&events, state_after(&order[..=at])).unwrap();
    let changes_something = !op(1, 30).writes.is_empty() && state_after(&order[..at]) != state_after(&order[..=at]);
    assert!(changes_something, "another seed is needed");
    is_found(&events, state_after(&order[..at]), "was confirmed Immediate, and is gone");
    is_found(&events, state_after(&order[..20]), "is gone");
    // A flush confirms as well: all that had ended before it began.
    events.extend([Event::BarrierBegan { by: 0 }]);
    settle(&events, state_after(&order[..=at])).unwrap();
    events.extend([Event::BarrierEnded { by: 0 }]);
    is_found(&events, state_after(&order[..=at]), "before something began that was confirmed durable");
    settle(&events, state_after(&order)).unwrap();
}

#[test]
fn writers_lose_only_the_end_of_the_common_order() {
    let (events, order) = told(40, |_, _| false);
    let one_behind: Vec<_> = order.iter().copied().filter(|(writer, number)| *writer == 0 || *number <= 20).collect();
    is_found(&events, state_after(&one_behind), "no prefix");
    let one_left_out: Vec<_> = order.iter().copied().filter(|c| *c != (0, 33)).collect();
    assert_ne!(state_after(&one_left_out), state_after(&order));
    is_found(&events, state_after(&one_left_out), "is no prefix");
}

#[test]
fn nothing_else_may_be_there() {
    let (events, order) = told(40, |_, _| false);
    let right = state_after(&order);
    let mut found = right.clone();
    let (&place, stamp) = found.entries.iter_mut().next().unwrap();
    stamp.len += 1;
    is_found(&events, found, "is no prefix");
    let mut found = right.clone();
    found.entries.remove(&place);
    is_found(&events, found, "is no prefix");
    let mut found = right.clone();
    found.accounts[3] += 1;
    is_found(&events, found, "accounts");
    let mut found = right.clone();
    found.turns += 1;
    is_found(&events, found, "transactions");
    settle(&events[..41], right).expect_err("commits that nobody has told of");
}

#[test]
fn what_was_settled_stays_and_what_was_lost_is_gone_for_good() {
    let (mut events, order) = told(30, |_, _| false);
    let at = order.iter().position(|c| *c == (1, 20)).unwrap();
    events.extend((0..2).map(|writer| Event::Settled { writer, number: 20 }));
    settle(&events, state_after(&order[..=at])).unwrap();
    is_found(&events, state_after(&order[..at - 10]), "is gone");
    settle(&events, state_after(&order)).expect_err("what was lost has come back");
}

/// The power may be cut while what was settled is being told, writer by writer.
#[test]
fn what_one_writer_has_left_says_nothing_of_what_others_have_lost() {
    let (mut events, order) = told(30, |_, _| false);
    let at = order.iter().position(|c| *c == (1, 20)).unwrap();
    events.push(Event::Settled { writer: 0, number: 20 });
    settle(&events, state_after(&order[..at])).unwrap();
    settle(&events, state_after(&order[..=at])).unwrap();
    is_found(&events, state_after(&order[..at - 10]), "commit 16 of writer 0 was confirmed Immediate, and is gone");
}

#[test]
fn a_second_look_begins_where_the_first_has_ended() {
    let (events, order) = told(30, |_, _| false);
    let (first, found) = (History::new(SEED, Size::Small), state_after(&order[..35]));
    let mut history = first;
    history.hear_all(events);
    history.settle(found.clone()).unwrap();
    assert_eq!(history.settle(found).unwrap().commits, 0);
    history.settle(state_after(&order[..36])).expect_err("a commit that was gone");
}
