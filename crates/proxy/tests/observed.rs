//! `Observed`, poll by poll: every ending, the gate, lengths, coalescing.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;
use proptest::prelude::*;
use proxy::BodyError;
use proxy::COALESCED_BYTES;
use proxy::End;
use proxy::Gate;
use proxy::Observed;
use proxy::Observer;
use proxy::Split;
use proxy::WITHHELD_BYTES_MAX;
use proxy::Whole;
use testkit::body::Held;
use testkit::body::Scripted;
use testkit::body::Step;

/// What the observer was told, and what it answers.
#[derive(Default)]
struct Notes {
    seen: Vec<u8>,
    ends: Vec<&'static str>,
    left: Option<usize>,
    gate: Option<Gate>,
    gate_asked: usize,
    is_full: bool,
    splits: VecDeque<usize>,
}

#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Notes>>);

impl Watch {
    fn with_gate(gate: Gate) -> Self {
        let watch = Self::default();
        watch.notes().gate = Some(gate);
        watch
    }

    /// For each frame in turn: how many bytes go now. Frames beyond pass.
    fn splitting(self, at: impl IntoIterator<Item = usize>) -> Self {
        self.notes().splits = at.into_iter().collect();
        self
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.0.lock().unwrap()
    }

    fn set(&self, gate: Gate) {
        self.notes().gate = Some(gate);
    }

    fn ends(&self) -> Vec<&'static str> {
        self.notes().ends.clone()
    }
}

impl<B: Left + Send + 'static> Observer<B> for Watch {
    fn frame(&mut self, data: Bytes) -> Split {
        let mut notes = self.notes();
        notes.seen.extend_from_slice(&data);
        match notes.splits.pop_front() {
            Some(at) => Split::at(data, at),
            None => Split::pass(data),
        }
    }

    fn end(&mut self, end: End<B>) {
        let mut notes = self.notes();
        let told = match end {
            End::Complete => "complete",
            End::Failed(_) => "failed",
            End::Abandoned(body) => {
                notes.left = Some(body.left());
                "abandoned"
            }
        };
        notes.ends.push(told);
    }

    fn poll_gate(&mut self, _: &mut Context<'_>) -> Poll<Gate> {
        let mut notes = self.notes();
        notes.gate_asked += 1;
        notes.gate.map_or(Poll::Pending, Poll::Ready)
    }

    fn full(&mut self) {
        let mut notes = self.notes();
        assert!(!notes.is_full, "told once");
        notes.is_full = true;
    }
}

/// How much of an abandoned body is left.
trait Left {
    fn left(&self) -> usize;
}

impl Left for Scripted {
    fn left(&self) -> usize {
        self.steps_left()
    }
}

impl Left for Whole {
    fn left(&self) -> usize {
        usize::from(!self.is_end_stream())
    }
}

type Polled<E> = Poll<Option<Result<Frame<Bytes>, E>>>;

fn poll<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Polled<B::Error> {
    Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
}

/// What one poll gives, as text.
fn step<B>(body: &mut B) -> String
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    match poll(body) {
        Poll::Pending => "pending".to_owned(),
        Poll::Ready(None) => "none".to_owned(),
        Poll::Ready(Some(Err(error))) if error.is_shut() => "shut".to_owned(),
        Poll::Ready(Some(Err(_))) => "error".to_owned(),
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
            Err(_) => "trailers".to_owned(),
        },
    }
}

fn data(text: &'static str) -> Step {
    Step::data(text)
}

fn trailers() -> Step {
    let mut map = HeaderMap::new();
    map.insert("x-sum", "1".parse().unwrap());
    Step::Trailers(map)
}

#[test]
fn a_body_that_has_ended_when_wrapped_is_complete_and_waits_for_nothing() {
    let watch = Watch::default();
    let mut body = Observed::new(Whole::empty(), watch.clone());
    assert_eq!(watch.ends(), ["complete"]);
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
    assert_eq!(step(&mut body), "none");
    drop(body);
    assert_eq!(watch.ends(), ["complete"]);
    assert_eq!(watch.notes().gate_asked, 0);
}

#[test]
fn the_frame_that_ends_a_known_length_waits_whole() {
    let watch = Watch::default();
    let mut body = Observed::new(
        Scripted::with_length([data("head"), Step::Pending, data("tail")]),
        watch.clone(),
    );
    assert_eq!(step(&mut body), "head");
    assert_eq!(step(&mut body), "pending");
    assert_eq!(step(&mut body), "pending");
    assert_eq!(
        watch.ends(),
        ["complete"],
        "the end is told before the gate is waited for"
    );
    assert!(!body.is_end_stream());
    watch.set(Gate::Open);
    assert_eq!(step(&mut body), "tail");
    assert!(body.is_end_stream());
    assert_eq!(step(&mut body), "none");
    drop(body);
    assert_eq!(watch.ends(), ["complete"]);
}

#[test]
fn an_open_gate_delays_nothing() {
    let watch = Watch::with_gate(Gate::Open);
    let mut body = Observed::new(Scripted::with_length([data("all")]), watch.clone());
    assert_eq!(step(&mut body), "all");
    assert!(body.is_end_stream());
    assert_eq!(watch.notes().gate_asked, 1);
}

#[test]
fn the_end_of_an_unknown_length_waits() {
    let watch = Watch::default();
    let mut body = Observed::new(Scripted::new([data("all")]), watch.clone());
    assert_eq!(step(&mut body), "all");
    assert_eq!(step(&mut body), "pending");
    assert_eq!(watch.ends(), ["complete"]);
    watch.set(Gate::Open);
    assert_eq!(step(&mut body), "none");
    assert!(body.is_end_stream());
}

#[test]
fn a_known_length_that_hides_its_end_waits_as_well() {
    let watch = Watch::default();
    let inner = Scripted::with_length([data("all"), Step::Pending]).silent_about_its_end();
    let mut body = Observed::new(inner, watch.clone());
    assert_eq!(step(&mut body), "pending");
    watch.set(Gate::Open);
    assert_eq!(step(&mut body), "all");
    // This is where hyper stops asking.
    drop(body);
    assert_eq!(watch.ends(), ["complete"]);
}

#[test]
fn trailers_wait_and_follow() {
    let watch = Watch::default();
    let mut body = Observed::new(Scripted::new([data("all"), trailers()]), watch.clone());
    assert_eq!(step(&mut body), "all");
    assert_eq!(step(&mut body), "pending");
    assert_eq!(watch.ends(), ["complete"]);
    watch.set(Gate::Open);
    assert!(!body.is_end_stream());
    assert_eq!(step(&mut body), "trailers");
    assert!(body.is_end_stream());
    assert_eq!(step(&mut body), "none");
}

#[test]
fn a_failure_comes_through_at_once() {
    let watch = Watch::default();
    let mut body = Observed::new(
        Scripted::new([data("a"), Step::Error("cut")]),
        watch.clone(),
    );
    assert_eq!(step(&mut body), "a");
    assert_eq!(step(&mut body), "error");
    assert_eq!(watch.ends(), ["failed"]);
    assert_eq!(step(&mut body), "none");
    drop(body);
    assert_eq!(watch.ends(), ["failed"]);
}

#[test]
fn a_failure_does_not_overtake_what_is_withheld() {
    let watch = Watch::default().splitting([1]);
    let mut body = Observed::new(
        Scripted::new([data("ab"), Step::Error("cut")]),
        watch.clone(),
    );
    assert_eq!(step(&mut body), "a");
    assert_eq!(step(&mut body), "pending");
    assert_eq!(watch.ends(), ["failed"]);
    watch.set(Gate::Open);
    assert_eq!(step(&mut body), "b");
    assert!(!body.is_end_stream());
    assert_eq!(step(&mut body), "error");
}

#[test]
fn a_failure_behind_a_shut_gate_stays_the_failure() {
    let watch = Watch::with_gate(Gate::Shut).splitting([0]);
    let mut body = Observed::new(
        Scripted::new([data("ab"), Step::Error("cut")]),
        watch.clone(),
    );
    assert_eq!(step(&mut body), "error");
    assert_eq!(watch.ends(), ["failed"]);
}

#[test]
fn dropping_hands_back_what_is_left() {
    let watch = Watch::default();
    let steps = [data("a"), Step::Pending, data("b"), data("c")];
    let mut body = Observed::new(Scripted::new(steps), watch.clone());
    assert_eq!(step(&mut body), "a");
    drop(body);
    assert_eq!(watch.ends(), ["abandoned"]);
    assert_eq!(watch.notes().left, Some(2));
}

#[test]
fn dropping_unpolled_is_an_end_too() {
    let watch = Watch::default();
    drop(Observed::new(
        Scripted::with_length([data("a")]),
        watch.clone(),
    ));
    assert_eq!(watch.ends(), ["abandoned"]);
}

#[test]
fn dropping_while_the_tail_waits_tells_nothing_more() {
    let watch = Watch::default();
    let mut body = Observed::new(Scripted::with_length([data("a")]), watch.clone());
    assert_eq!(step(&mut body), "pending");
    drop(body);
    assert_eq!(watch.ends(), ["complete"]);
}

#[test]
fn a_shut_gate_cuts_and_hands_back_what_is_left() {
    let watch = Watch::default().splitting([1]);
    let mut body = Observed::new(
        Scripted::new([data("ab"), Step::Pending, data("c")]),
        watch.clone(),
    );
    assert_eq!(step(&mut body), "a");
    watch.set(Gate::Shut);
    assert_eq!(step(&mut body), "shut");
    assert_eq!(watch.ends(), ["abandoned"]);
    assert_eq!(step(&mut body), "none");
}

#[test]
fn a_shut_gate_after_the_end_lets_nothing_out() {
    let watch = Watch::default();
    let mut body = Observed::new(Scripted::with_length([data("secret")]), watch.clone());
    assert_eq!(step(&mut body), "pending");
    watch.set(Gate::Shut);
    assert_eq!(step(&mut body), "shut");
    assert_eq!(watch.ends(), ["complete"]);
}

#[test]
fn what_follows_something_withheld_waits_behind_it() {
    let watch = Watch::default().splitting([2, 9, 9]);
    let mut body = Observed::new(
        Scripted::new([data("{}}"), data(" "), data("\n")]),
        watch.clone(),
    );
    assert_eq!(step(&mut body), "{}");
    assert_eq!(step(&mut body), "pending");
    assert_eq!(
        watch.notes().seen,
        b"{}} \n",
        "it is read on, as the gate may wait for the rest"
    );
    assert_eq!(watch.ends(), ["complete"]);
    watch.set(Gate::Open);
    assert_eq!(step(&mut body), "} \n");
    assert_eq!(step(&mut body), "none");
}

#[test]
fn the_gate_may_open_before_the_body_ends() {
    let held = Held::default();
    let watch = Watch::default().splitting([1]);
    let mut body = Observed::new(
        Scripted::new([data("ab"), Step::Wait(held.clone()), data("c")]),
        watch.clone(),
    );
    assert_eq!(step(&mut body), "a");
    assert_eq!(step(&mut body), "pending");
    watch.set(Gate::Open);
    assert_eq!(step(&mut body), "b");
    held.release();
    assert_eq!(step(&mut body), "c");
    assert_eq!(step(&mut body), "none");
    assert_eq!(watch.notes().gate_asked, 2);
}

#[test]
fn withholding_is_bounded_and_the_observer_is_told() {
    let frame = || Step::Data(Bytes::from(vec![b' '; 8 * 1024]));
    let frames = WITHHELD_BYTES_MAX / (8 * 1024);
    let watch = Watch::default().splitting([0]);
    let mut body = Observed::new(
        Scripted::new((0..2 * frames).map(|_| frame())),
        watch.clone(),
    );
    for _ in 0..8 {
        assert_eq!(step(&mut body), "pending");
    }
    assert!(watch.notes().is_full);
    assert_eq!(watch.notes().seen.len(), WITHHELD_BYTES_MAX);
    watch.set(Gate::Open);
    let mut out = 0;
    while let Poll::Ready(Some(Ok(frame))) = poll(&mut body) {
        out += frame.into_data().unwrap().len();
    }
    assert_eq!(out, 2 * WITHHELD_BYTES_MAX);
}

#[test]
fn ready_frames_go_on_together_and_none_waits_for_more() {
    let held = Held::default();
    let steps = [
        data("a"),
        data("b"),
        Step::Wait(held.clone()),
        data("c"),
        data("d"),
        data("e"),
    ];
    let mut body = Observed::new(Scripted::new(steps), Watch::with_gate(Gate::Open));
    assert_eq!(step(&mut body), "ab");
    assert_eq!(step(&mut body), "pending");
    held.release();
    assert_eq!(step(&mut body), "cde");
    assert_eq!(step(&mut body), "none");
}

#[test]
fn coalescing_is_bounded_and_leaves_large_frames_alone() {
    let large = Bytes::from(vec![b'x'; COALESCED_BYTES]);
    let steps = [data("a"), Step::Data(large.clone()), data("b")];
    let mut body = Observed::new(Scripted::new(steps), Watch::with_gate(Gate::Open));
    assert_eq!(step(&mut body), "a");
    let Poll::Ready(Some(Ok(frame))) = poll(&mut body) else {
        panic!("the large frame follows");
    };
    assert_eq!(
        frame.into_data().unwrap().as_ptr(),
        large.as_ptr(),
        "without a copy"
    );
    assert_eq!(step(&mut body), "b");
}

#[test]
fn a_known_length_stays_known_to_the_end() {
    let watch = Watch::default();
    let mut body = Observed::new(
        Scripted::with_length([data("abc"), Step::Pending, data("de")]),
        watch.clone(),
    );
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(step(&mut body), "abc");
    assert_eq!(body.size_hint().exact(), Some(2));
    assert_eq!(step(&mut body), "pending");
    assert_eq!(step(&mut body), "pending");
    assert_eq!(
        body.size_hint().exact(),
        Some(2),
        "the withheld bytes are still to come"
    );
    watch.set(Gate::Open);
    assert_eq!(step(&mut body), "de");
    assert_eq!(body.size_hint().exact(), Some(0));
}

#[test]
fn an_observer_that_changes_lengths_promises_none() {
    let body = Observed::resizing(Scripted::with_length([data("abc")]), Watch::default());
    assert_eq!(body.size_hint().exact(), None);
    let body = Observed::resizing(Whole::empty(), Watch::default());
    assert!(body.is_end_stream());
}

#[test]
fn swallowed_frames_leave_no_trace() {
    struct Swallow;
    impl<B> Observer<B> for Swallow {
        fn frame(&mut self, data: Bytes) -> Split {
            if data == "x" {
                Split::nothing()
            } else {
                Split::pass(data)
            }
        }
        fn end(&mut self, _: End<B>) {}
        fn poll_gate(&mut self, _: &mut Context<'_>) -> Poll<Gate> {
            Poll::Ready(Gate::Open)
        }
    }
    let steps = [
        data("a"),
        data("x"),
        Step::Pending,
        data("x"),
        Step::Pending,
        data("b"),
    ];
    let mut body = Observed::resizing(Scripted::new(steps), Swallow);
    assert_eq!(step(&mut body), "a");
    assert_eq!(step(&mut body), "b");
    assert_eq!(step(&mut body), "none");
}

#[test]
fn what_an_observer_holds_back_itself_comes_at_the_end() {
    /// Holds back the last byte it has seen.
    struct Lagging(Watch, Bytes);
    impl<B: Left + Send + 'static> Observer<B> for Lagging {
        fn frame(&mut self, mut data: Bytes) -> Split {
            let mut now = std::mem::take(&mut self.1).to_vec();
            self.1 = data.split_off(data.len() - 1);
            now.extend_from_slice(&data);
            Split::pass(now.into())
        }
        fn rest(&mut self) -> Bytes {
            std::mem::take(&mut self.1)
        }
        fn end(&mut self, end: End<B>) {
            Observer::<B>::end(&mut self.0, end);
        }
        fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Gate> {
            Observer::<B>::poll_gate(&mut self.0, cx)
        }
    }
    for (last, end, after) in [
        (None, "complete", "none"),
        (Some(trailers()), "complete", "trailers"),
        (Some(Step::Error("cut")), "failed", "error"),
    ] {
        let watch = Watch::default();
        let steps = [data("ab"), data("cd")].into_iter().chain(last);
        let mut body =
            Observed::resizing(Scripted::new(steps), Lagging(watch.clone(), Bytes::new()));
        assert_eq!(step(&mut body), "abc");
        assert_eq!(step(&mut body), "pending");
        assert_eq!(watch.ends(), [end]);
        watch.set(Gate::Open);
        assert_eq!(step(&mut body), "d");
        assert_eq!(step(&mut body), after);
    }
}

#[test]
fn an_observer_that_swallows_for_ever_lets_other_tasks_run() {
    let many = (0..100_000).map(|_| data("a"));
    struct Swallow;
    impl<B> Observer<B> for Swallow {
        fn frame(&mut self, _: Bytes) -> Split {
            Split::nothing()
        }
        fn end(&mut self, _: End<B>) {}
        fn poll_gate(&mut self, _: &mut Context<'_>) -> Poll<Gate> {
            Poll::Ready(Gate::Open)
        }
    }
    let mut body = Observed::resizing(Scripted::new(many), Swallow);
    let mut turns = 0;
    while step(&mut body) == "pending" {
        turns += 1;
    }
    assert!(turns > 10, "{turns} turns");
}

proptest! {
    /// Whatever the frames, the pauses, the splits and the moment the gate opens: every byte arrives, in order,
    /// none of the tail before the gate, the end told once and the length right all along.
    #[test]
    fn bytes_arrive_whole_in_order_and_not_before_the_gate(
        frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), any::<bool>()), 0..12),
        splits in prop::collection::vec(0usize..60, 0..12),
        is_known in any::<bool>(),
        has_trailers in any::<bool>(),
        opens_after in 0usize..30,
    ) {
        let mut steps = Vec::new();
        let mut all = Vec::new();
        for (bytes, pauses) in &frames {
            all.extend_from_slice(bytes);
            steps.push(Step::Data(Bytes::copy_from_slice(bytes)));
            if *pauses {
                steps.push(Step::Pending);
            }
        }
        // A body of known length ends with its last byte here.
        let inner = if is_known {
            while matches!(steps.last(), Some(Step::Pending)) {
                steps.pop();
            }
            Scripted::with_length(steps)
        } else {
            if has_trailers {
                steps.push(trailers());
            }
            Scripted::new(steps)
        };
        let was_empty = inner.is_end_stream();
        let watch = Watch::default().splitting(splits);
        let mut body = Observed::new(inner, watch.clone());
        let mut out = Vec::new();
        let mut got_trailers = false;
        for turn in 0.. {
            prop_assert!(turn < 200, "it ends");
            if turn == opens_after {
                watch.set(Gate::Open);
            }
            if is_known {
                prop_assert_eq!(body.size_hint().exact(), Some((all.len() - out.len()) as u64));
            }
            if body.is_end_stream() {
                break;
            }
            match poll(&mut body) {
                Poll::Pending => {}
                Poll::Ready(None) => break,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        prop_assert!(!data.is_empty());
                        out.extend_from_slice(&data);
                        let is_early = watch.notes().gate.is_none();
                        prop_assert!(!(is_early && is_known && out.len() == all.len()));
                    }
                    Err(_) => {
                        prop_assert!(watch.notes().gate.is_some());
                        got_trailers = true;
                    }
                },
                Poll::Ready(Some(Err(error))) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        prop_assert!(body.is_end_stream());
        prop_assert!(was_empty || watch.notes().gate.is_some(), "no end before the gate");
        prop_assert_eq!(&out, &all);
        prop_assert_eq!(&watch.notes().seen, &all);
        prop_assert_eq!(got_trailers, has_trailers && !is_known);
        drop(body);
        prop_assert_eq!(watch.ends(), ["complete"]);
    }
}
