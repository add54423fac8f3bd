//! Rows for the rules, properties of every decision, and that the budget returns to nothing.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use proptest::prelude::*;

use super::*;
use crate::verdict::{
    Blame, Cause, Ending, Executed, Hints, How, Place, Pushback, Timeout, Verdict, Whose, classify,
};

const HALF: u32 = 1 << 31;

fn verdict(how: How<'_>) -> Verdict {
    classify(&Ending::from(how))
}

fn answered(code: &str, pushback: Option<&str>) -> Verdict {
    let hints = Hints { grpc_retry_pushback_ms: pushback.map(str::as_bytes), retry_after: None };
    verdict(How::Grpc { http_status: 200, status: Some((code.as_bytes(), Place::TrailersOnly)), hints })
}

fn refused() -> Verdict {
    verdict(How::Reset { code: 7 })
}

const FOREVER: Deadline = Deadline::none();

/// A first attempt at an idempotent call that can be sent again.
fn attempt(verdict: &Verdict) -> Attempt<'_> {
    Attempt {
        verdict,
        history: History::default(),
        backends: 2,
        idempotent: true,
        passed_on: false,
        replayable: true,
        took: Duration::ZERO,
        deadline: &FOREVER,
        now: Instant::now(),
        random: HALF,
    }
}

fn again(millis: f64, transparent: bool) -> Decision {
    Decision::Again { after: Duration::from_secs_f64(millis / 1000.0), transparent }
}

fn stop(why: Why) -> Decision {
    Decision::Stop(why)
}

fn default(attempt: &Attempt<'_>) -> Decision {
    decide(&Policy::default(), attempt)
}

#[test]
fn what_an_idempotent_call_is_sent_again_after() {
    let rows = [
        (answered("0", None), stop(Why::Succeeded)),
        (answered("14", None), again(12.5, false)),
        (answered("13", None), stop(Why::NotRetryable)),
        (answered("8", None), stop(Why::NotRetryable)),
        (answered("4", None), stop(Why::NotRetryable)),
        (answered("5", None), stop(Why::NotRetryable)),
        (verdict(How::Reset { code: 2 }), again(12.5, false)),
        (verdict(How::GoAway { code: 0, above_last_id: false }), again(12.5, false)),
        (verdict(How::Broken), again(12.5, false)),
        (verdict(How::TimedOut(Timeout::FirstByte)), again(12.5, false)),
        (verdict(How::TimedOut(Timeout::StreamIdle)), stop(Why::Deadline)),
        (verdict(How::ProtocolError), stop(Why::NotRetryable)),
        (verdict(How::Http { status: 503, hints: Hints::default() }), again(12.5, false)),
        (verdict(How::Http { status: 500, hints: Hints::default() }), stop(Why::NotRetryable)),
        (verdict(How::Http { status: 404, hints: Hints::default() }), stop(Why::NotRetryable)),
        (verdict(How::Cancelled), stop(Why::Cancelled)),
        (verdict(How::TimedOut(Timeout::Deadline { whose: Whose::Caller, sent: true })), stop(Why::Deadline)),
        (verdict(How::Refused(crate::verdict::Refusal::Overflow)), stop(Why::Refused)),
        (verdict(How::Refused(crate::verdict::Refusal::NoHealthyBackend)), stop(Why::Refused)),
        (verdict(How::ConnectFailed), again(0.0, true)),
        (verdict(How::TimedOut(Timeout::Connect)), again(0.0, true)),
        (verdict(How::ClosedUnsent), again(0.0, true)),
        (verdict(How::GoAway { code: 0, above_last_id: true }), again(0.0, true)),
        (refused(), again(0.0, true)),
    ];
    for (verdict, expected) in rows {
        assert_eq!(default(&attempt(&verdict)), expected, "{verdict:?}");
    }
}

#[test]
fn a_call_that_is_not_idempotent_is_sent_again_only_if_it_was_never_executed() {
    for how in [How::ConnectFailed, How::ClosedUnsent, How::Reset { code: 7 }] {
        let verdict = verdict(how);
        assert_eq!(
            default(&Attempt { idempotent: false, ..attempt(&verdict) }),
            again(0.0, true),
            "{verdict:?}"
        );
    }
    for how in [How::Broken, How::Reset { code: 2 }, How::GoAway { code: 0, above_last_id: false }] {
        let verdict = verdict(how);
        let decision = default(&Attempt { idempotent: false, ..attempt(&verdict) });
        assert_eq!(decision, stop(Why::NotIdempotent), "{verdict:?}");
    }
    let unavailable = answered("14", Some("10"));
    let decision = default(&Attempt { idempotent: false, ..attempt(&unavailable) });
    assert_eq!(decision, stop(Why::NotIdempotent), "a pushback does not make it safe");
}

#[test]
fn what_has_been_passed_on_or_is_not_kept_stops_everything() {
    for verdict in [answered("14", None), refused(), verdict(How::ConnectFailed), verdict(How::Broken)] {
        assert_eq!(default(&Attempt { passed_on: true, ..attempt(&verdict) }), stop(Why::PassedOn));
        assert_eq!(default(&Attempt { replayable: false, ..attempt(&verdict) }), stop(Why::NotReplayable));
    }
}

/// Follows one call whose every attempt ends the same way. Returns the decisions up to the stop.
fn follow(policy: &Policy, start: &Attempt<'_>) -> Vec<Decision> {
    let mut decisions = Vec::new();
    let mut attempt = *start;
    loop {
        let decision = decide(policy, &attempt);
        decisions.push(decision);
        let Decision::Again { after, transparent } = decision else { return decisions };
        attempt.history = attempt.history.sent_again(attempt.verdict, transparent);
        attempt.now += after;
        assert!(decisions.len() < 100, "{decisions:?}");
    }
}

#[test]
fn a_call_that_never_leaves_tries_each_backend_and_three_more_at_once() {
    let failed = verdict(How::ConnectFailed);
    let decisions = follow(&Policy::default(), &Attempt { idempotent: false, ..attempt(&failed) });
    let mut expected = vec![again(0.0, true); 5];
    expected.extend([again(12.5, false), again(25.0, false), stop(Why::Attempts)]);
    assert_eq!(decisions, expected);
}

#[test]
fn a_refused_stream_is_free_once_per_attempt() {
    let refused = refused();
    let decisions = follow(&Policy::default(), &Attempt { idempotent: false, ..attempt(&refused) });
    let free = again(0.0, true);
    assert_eq!(decisions, [free, again(12.5, false), free, again(25.0, false), free, stop(Why::Attempts)]);
}

#[test]
fn waits_double_up_to_the_limit_and_attempts_end() {
    let unavailable = answered("14", None);
    let policy = Policy { max_attempts: 99, ..Policy::default() };
    let waits = [again(12.5, false), again(25.0, false), again(50.0, false), again(100.0, false)];
    let decisions = follow(&policy, &attempt(&unavailable));
    assert_eq!(decisions[..4], waits);
    assert_eq!(decisions[4..], [stop(Why::Attempts)], "five attempts, whatever is configured");
    for (max_attempts, sent) in [(0, 1), (1, 1), (2, 2), (3, 3), (5, 5), (6, 5)] {
        let policy = Policy { max_attempts, ..Policy::default() };
        assert_eq!(follow(&policy, &attempt(&unavailable)).len(), sent);
    }
}

#[test]
fn jitter_is_full() {
    let backoff = Backoff::default();
    for (repetition, most) in [(0, 25), (1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (u32::MAX, 250)] {
        let most = Duration::from_millis(most);
        assert_eq!(backoff.wait(repetition, 0), Duration::ZERO);
        assert_eq!(backoff.wait(repetition, HALF), most / 2);
        let longest = backoff.wait(repetition, u32::MAX);
        assert!(longest < most && longest > most * 999 / 1000, "{longest:?}");
    }
    let endless = Backoff { base: Duration::MAX, max: Duration::MAX };
    assert!(endless.wait(9, u32::MAX) > Duration::from_secs(1));
}

#[test]
fn a_pushback_replaces_the_wait_and_starts_it_anew() {
    let never = answered("14", Some("-1"));
    assert_eq!(default(&attempt(&never)), stop(Why::Pushback));
    let (pushed, plain) = (answered("14", Some("700")), answered("14", None));
    let policy = Policy { max_attempts: 5, ..Policy::default() };
    let mut history = History::default();
    let mut waits = Vec::new();
    for verdict in [&plain, &plain, &pushed, &plain] {
        let decision = decide(&policy, &Attempt { history, ..attempt(verdict) });
        waits.push(decision);
        history = history.sent_again(verdict, false);
    }
    assert_eq!(waits, [again(12.5, false), again(25.0, false), again(700.0, false), again(12.5, false)]);
    let exhausted = answered("8", Some("700"));
    assert_eq!(default(&attempt(&exhausted)), stop(Why::NotRetryable), "the code still decides");
    let policy = Policy { codes: Codes::default().with(Code::ResourceExhausted), ..Policy::default() };
    assert_eq!(decide(&policy, &attempt(&exhausted)), again(700.0, false));
}

#[test]
fn a_policy_can_leave_the_transport_out() {
    let policy = Policy { on_transport_failure: false, codes: Codes::default(), ..Policy::default() };
    assert_eq!(decide(&policy, &attempt(&verdict(How::Broken))), stop(Why::NotRetryable));
    assert_eq!(decide(&policy, &attempt(&verdict(How::ConnectFailed))), again(0.0, true));
}

#[test]
fn a_wait_must_end_before_the_deadline() {
    let unavailable = answered("14", Some("100"));
    let now = Instant::now();
    for (left, expected) in [(101, again(100.0, false)), (100, stop(Why::Deadline)), (0, stop(Why::Deadline))]
    {
        let deadline = Deadline::new(Some(Duration::from_millis(left)), Limits::default(), now);
        assert_eq!(
            default(&Attempt { deadline: &deadline, now, ..attempt(&unavailable) }),
            expected,
            "{left}"
        );
    }
    let over = Deadline::new(Some(Duration::ZERO), Limits::default(), now);
    let failed = verdict(How::ConnectFailed);
    let decision = default(&Attempt { deadline: &over, now, ..attempt(&failed) });
    assert_eq!(decision, stop(Why::Deadline), "not even for free");
}

#[test]
fn transparent_attempts_are_not_told() {
    let (failed, unavailable) = (verdict(How::ConnectFailed), answered("14", None));
    let first = History::default();
    assert_eq!(first.previous_attempts(0), None);
    assert_eq!(first.sent_again(&failed, true).previous_attempts(0), None);
    assert_eq!(first.sent_again(&refused(), true).previous_attempts(0), None);
    let second = first.sent_again(&unavailable, false);
    assert_eq!((second.number(), second.previous_attempts(0)), (2, Some(1)));
    assert_eq!(first.previous_attempts(2), Some(2), "the caller's own count goes on");
    assert_eq!(second.previous_attempts(2), Some(3));
    assert_eq!(second.previous_attempts(u32::MAX), Some(u32::MAX));
}

#[test]
fn a_deadline_is_what_was_asked_within_the_route_s_limits() {
    let now = Instant::now();
    let ms = |millis| Some(Duration::from_millis(millis));
    let rows = [
        (None, None, None, None, Whose::Route),
        (ms(50), None, None, ms(50), Whose::Caller),
        (None, ms(70), None, ms(70), Whose::Route),
        (ms(50), ms(20), None, ms(50), Whose::Caller),
        (ms(50), ms(20), ms(40), ms(40), Whose::Route),
        (ms(40), ms(20), ms(40), ms(40), Whose::Caller),
        (None, ms(70), ms(40), ms(40), Whose::Route),
        (None, None, ms(40), ms(40), Whose::Route),
        (Some(Duration::MAX), None, None, None, Whose::Caller),
        (Some(Duration::MAX), None, ms(9), ms(9), Whose::Route),
        (ms(0), None, None, ms(0), Whose::Caller),
    ];
    for (asked, default, max, expected, whose) in rows {
        let deadline = Deadline::new(asked, Limits { default, max }, now);
        assert_eq!(
            (deadline.remaining(now), deadline.whose()),
            (expected, whose),
            "{asked:?} {default:?} {max:?}"
        );
        assert_eq!(deadline.at(), expected.map(|time| now + time));
    }
}

#[test]
fn a_call_that_would_wait_too_long_is_refused_early() {
    let now = Instant::now();
    let deadline = Deadline::new(Some(Duration::from_millis(100)), Limits::default(), now);
    let ms = Duration::from_millis;
    assert!(deadline.leaves_room(ms(99), now));
    assert!(!deadline.leaves_room(ms(100), now));
    assert!(deadline.leaves_room(ms(9), now + ms(90)));
    assert!(!deadline.leaves_room(ms(10), now + ms(90)));
    assert!(!deadline.leaves_room(ms(0), now + ms(100)));
    assert_eq!(deadline.remaining(now + ms(500)), Some(Duration::ZERO));
    assert!(Deadline::none().leaves_room(Duration::MAX, now));
}

#[test]
fn the_budget_is_a_share_of_the_calls_and_three_in_any_case() {
    let budget = Budget::default();
    for (calls, limit) in [(0, 3), (15, 3), (19, 3), (20, 4), (24, 4), (25, 5), (1000, 200)] {
        let held: Vec<_> = (0..calls).map(|_| budget.call()).collect();
        let places: Vec<_> = std::iter::from_fn(|| budget.retry()).take(5000).collect();
        assert_eq!((places.len(), budget.retries(), budget.limit()), (limit, limit as u64, limit as u64));
        drop((held, places));
        assert_eq!((budget.calls(), budget.retries()), (0, 0));
    }
    assert!(Budget::new(0, 0).retry().is_none());
}

#[test]
fn a_decision_takes_its_place_or_becomes_a_stop() {
    let budget = Budget::new(20, 1);
    let counted = again(12.5, false);
    let (decision, place) = budget.claim(counted);
    assert_eq!((decision, place.is_some()), (counted, true));
    assert_eq!(budget.claim(counted).0, stop(Why::Budget));
    let (free, nothing) = budget.claim(again(0.0, true));
    assert_eq!((free, nothing.is_none(), budget.retries()), (again(0.0, true), true, 1));
    assert_eq!(budget.claim(stop(Why::Pushback)).0, stop(Why::Pushback));
    drop(place);
    assert_eq!(budget.retries(), 0);
    assert!(budget.claim(counted).1.is_some());
}

#[test]
fn many_threads_keep_the_limit_and_return_to_nothing() {
    let budget = Budget::new(50, 3);
    let granted = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..8 {
            let (budget, granted) = (budget.clone(), &granted);
            scope.spawn(move || {
                for round in 0..2000 {
                    let _call = budget.call();
                    let places: Vec<_> = (0..(thread + round) % 4).filter_map(|_| budget.retry()).collect();
                    // With at most 8 calls, no more than 4 places can ever be given at a time.
                    assert!(budget.retries() <= 4, "{}", budget.retries());
                    granted.fetch_add(places.len() as u64, Ordering::Relaxed);
                }
            });
        }
        let panicking = budget.clone();
        let ended = scope.spawn(move || {
            let _held = (panicking.call(), panicking.retry());
            std::panic::resume_unwind(Box::new("the task dies"));
        });
        assert!(ended.join().is_err());
    });
    assert!(granted.load(Ordering::Relaxed) > 0);
    assert_eq!((budget.calls(), budget.retries()), (0, 0));
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    let code = (0_u32..18, prop::option::of(-5_i32..2000));
    prop_oneof![
        code.prop_map(|(code, pushback)| {
            answered(&code.to_string(), pushback.map(|millis| millis.to_string()).as_deref())
        }),
        (0_u32..16).prop_map(|code| verdict(How::Reset { code })),
        any::<bool>().prop_map(|above_last_id| verdict(How::GoAway { code: 0, above_last_id })),
        (100_u16..600).prop_map(|status| verdict(How::Http { status, hints: Hints::default() })),
        prop::sample::select(vec![
            How::ConnectFailed,
            How::ClosedUnsent,
            How::Broken,
            How::ProtocolError,
            How::TimedOut(Timeout::Connect),
            How::TimedOut(Timeout::FirstByte),
        ])
        .prop_map(verdict),
    ]
}

proptest! {
    /// However the attempts of a call end: what may have been executed is never sent again unless its method allows
    /// it, nothing is after it was passed on, waits end before the deadline, and the call ends.
    #[test]
    fn every_call_ends_and_nothing_is_repeated_that_must_not_be(
        verdicts in prop::collection::vec(any_verdict(), 40),
        idempotent in any::<bool>(), kept in 0_usize..12, passed in 0_usize..12,
        backends in 0_u32..6, max_attempts in 0_u32..9, millis in 0_u64..3000, random in any::<u32>(),
    ) {
        let start = Instant::now();
        let deadline = Deadline::new(Some(Duration::from_millis(millis)), Limits::default(), start);
        let policy = Policy { max_attempts, ..Policy::default() };
        let (mut history, mut now, mut sent) = (History::default(), start, 0);
        for verdict in &verdicts {
            sent += 1;
            let (passed_on, replayable) = (sent > passed, sent <= kept);
            let attempt = Attempt { verdict, history, backends, idempotent, passed_on, replayable, took: Duration::ZERO, deadline: &deadline, now, random };
            let Decision::Again { after, transparent } = decide(&policy, &attempt) else { break };
            prop_assert!(idempotent || verdict.executed.never(), "{verdict:?}");
            prop_assert!(!passed_on && replayable);
            prop_assert!(verdict.blame != Blame::Success && verdict.blame != Blame::Caller);
            prop_assert!(verdict.cause != Cause::Cancelled && verdict.pushback != Some(Pushback::Never));
            prop_assert!(now + after < start + Duration::from_millis(millis));
            prop_assert!(!transparent || verdict.executed.never() && after.is_zero());
            if let (false, Some(Pushback::After(asked))) = (transparent, verdict.pushback) {
                prop_assert_eq!(after, asked);
            }
            let before = history.previous_attempts(0);
            history = history.sent_again(verdict, transparent);
            prop_assert_eq!(history.previous_attempts(0) == before, transparent);
            now += after;
        }
        let attempts = max_attempts.clamp(1, MOST_ATTEMPTS) as usize;
        prop_assert!(history.number() as usize <= attempts);
        prop_assert!(sent <= 2 * attempts + backends as usize + 3, "{sent}");
    }

    /// Whatever is taken and dropped in whatever order, the counts are the guards alive.
    #[test]
    fn the_budget_counts_the_guards_alive(steps in prop::collection::vec((0_u8..4, any::<prop::sample::Index>()), 0..300)) {
        let budget = Budget::default();
        let (mut calls, mut retries) = (Vec::new(), Vec::new());
        for (step, index) in steps {
            match step {
                0 => calls.push(budget.call()),
                1 => {
                    let room = (retries.len() as u64) < (calls.len() as u64 / 5).max(3);
                    let place = budget.retry();
                    prop_assert_eq!(place.is_some(), room);
                    retries.extend(place);
                }
                2 if !calls.is_empty() => drop(calls.swap_remove(index.index(calls.len()))),
                3 if !retries.is_empty() => drop(retries.swap_remove(index.index(retries.len()))),
                _ => {}
            }
            prop_assert_eq!((budget.calls(), budget.retries()), (calls.len() as u64, retries.len() as u64));
        }
        drop((calls, retries));
        prop_assert_eq!((budget.calls(), budget.retries()), (0, 0));
    }
}

#[test]
fn the_executed_states_that_never_were() {
    let never =
        [Executed::NotSent, Executed::Unprocessed, Executed::Perhaps, Executed::Yes].map(Executed::never);
    assert_eq!(never, [true, true, false, false]);
}

#[test]
fn only_the_first_repetition_after_a_broken_connection_or_a_hang_is_free() {
    let broken = classify(&Ending::from(How::Broken));
    let reset = classify(&Ending::from(How::Reset { code: 2 }));
    let first = History::default();
    assert!(is_free(&broken, first, false));
    assert!(!is_free(&broken, first.sent_again(&broken, false), false));
    assert!(!is_free(&reset, first, true));
    let late = verdict(How::TimedOut(Timeout::FirstByte));
    assert!(is_free(&late, first, true));
    assert!(!is_free(&late, first, false), "others were answered: it is busy");
    assert!(!is_free(&late, first.sent_again(&late, false), true));
}

#[test]
fn an_answer_that_would_come_too_late_is_not_waited_for() {
    let now = Instant::now();
    let deadline = Deadline::new(Some(Duration::from_secs(5)), Limits::default(), now);
    let status = Some((&b"14"[..], Place::Trailers));
    let unavailable =
        classify(&Ending::from(How::Grpc { http_status: 200, status, hints: Hints::default() }));
    let after = |verdict, took| Attempt {
        took: Duration::from_secs(took),
        now: now + Duration::from_secs(2),
        deadline: &deadline,
        random: 0,
        ..attempt(verdict)
    };
    let policy = Policy::default();
    assert!(matches!(decide(&policy, &after(&unavailable, 2)), Decision::Again { .. }));
    assert_eq!(decide(&policy, &after(&unavailable, 3)), Decision::Stop(Why::Deadline));
    let broken = classify(&Ending::from(How::Broken));
    assert!(matches!(decide(&policy, &after(&broken, 3)), Decision::Again { .. }));
}

#[test]
fn a_call_is_not_held_for_a_backend_that_asks_for_long() {
    let hints = |retry_after| Hints { grpc_retry_pushback_ms: None, retry_after: Some(retry_after) };
    let unavailable =
        |retry_after: &'static [u8]| verdict(How::Http { status: 503, hints: hints(retry_after) });
    let decided = |verdict: &Verdict| decide(&Policy::default(), &attempt(verdict));
    let second = Decision::Again { after: Duration::from_secs(1), transparent: false };
    assert_eq!(decided(&unavailable(b"1")), second);
    assert_eq!(decided(&unavailable(b"120")), Decision::Stop(Why::Pushback));
}
