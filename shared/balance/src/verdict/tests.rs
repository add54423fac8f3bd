//! The whole table, row by row, and that it has no holes.

use proptest::prelude::*;

use super::*;

const NO_HINTS: Hints<'static> = Hints { grpc_retry_pushback_ms: None, retry_after: None };

fn http(status: u16) -> Ending<'static> {
    How::Http { status, hints: NO_HINTS }.into()
}

fn grpc(status: &str, place: Place) -> Ending<'_> {
    How::Grpc { http_status: 200, status: Some((status.as_bytes(), place)), hints: NO_HINTS }.into()
}

fn reset(code: u32) -> Ending<'static> {
    How::Reset { code }.into()
}

fn go_away(code: u32, above_last_id: bool) -> Ending<'static> {
    How::GoAway { code, above_last_id }.into()
}

fn deadline(whose: Whose, sent: bool) -> How<'static> {
    How::TimedOut(Timeout::Deadline { whose, sent })
}

fn begun(ending: Ending<'_>) -> Ending<'_> {
    Ending { response_begun: true, ..ending }
}

fn still_sending(how: How<'_>) -> Ending<'_> {
    Ending { request_complete: false, ..how.into() }
}

fn client_reset(ending: Ending<'_>) -> Ending<'_> {
    Ending { client_reset: true, ..ending }
}

type Row = (Ending<'static>, &'static str, Blame, Executed, Code, &'static str);

/// Holds every row: ending, label, blame, executed, code, flag.
#[track_caller]
fn assert_rows(rows: &[Row]) {
    for (ending, label, blame, executed, code, flag) in rows {
        let verdict = classify(ending);
        let seen = (verdict.cause.label(), verdict.blame, verdict.executed, verdict.code);
        assert_eq!(seen, (*label, *blame, *executed, *code), "{ending:?}");
        assert_eq!(verdict.flag().map_or("", Flag::as_str), *flag, "{ending:?}");
        assert_eq!(verdict.pushback, None, "{ending:?}");
    }
}

#[test]
fn every_grpc_code_has_its_blame() {
    let blames = [
        (Code::Ok, Blame::Success),
        (Code::Cancelled, Blame::Overloaded),
        (Code::Unknown, Blame::Failed),
        (Code::InvalidArgument, Blame::Caller),
        (Code::DeadlineExceeded, Blame::Overloaded),
        (Code::NotFound, Blame::Caller),
        (Code::AlreadyExists, Blame::Caller),
        (Code::PermissionDenied, Blame::Caller),
        (Code::ResourceExhausted, Blame::Overloaded),
        (Code::FailedPrecondition, Blame::Caller),
        (Code::Aborted, Blame::Caller),
        (Code::OutOfRange, Blame::Caller),
        (Code::Unimplemented, Blame::Caller),
        (Code::Internal, Blame::Failed),
        (Code::Unavailable, Blame::Failed),
        (Code::DataLoss, Blame::Failed),
        (Code::Unauthenticated, Blame::Caller),
    ];
    for (number, (code, blame)) in blames.into_iter().enumerate() {
        let text = number.to_string();
        for place in [Place::Headers, Place::TrailersOnly, Place::Trailers] {
            let verdict = classify(&grpc(&text, place));
            assert_eq!((verdict.code, verdict.blame), (code, blame), "{text} in {place:?}");
            assert_eq!((verdict.cause.label(), verdict.flag()), (code.as_str(), None));
            let certain = code == Code::Ok || place == Place::Trailers;
            assert_eq!(verdict.executed, if certain { Executed::Yes } else { Executed::Perhaps });
        }
    }
}

#[test]
fn a_cancelled_answer_is_nobodys_if_the_client_had_reset() {
    let verdict = classify(&client_reset(grpc("1", Place::Trailers)));
    assert_eq!((verdict.blame, verdict.code), (Blame::Nobody, Code::Cancelled));
    let other = classify(&client_reset(grpc("13", Place::Trailers)));
    assert_eq!(other.blame, Blame::Failed, "a reset excuses nothing else");
}

#[test]
fn a_grpc_status_that_is_none_is_unknown() {
    for text in ["", "17", "99", "-1", "00", "014", "0x1", " 0", "0 ", "+5", "five", "\u{ff11}"] {
        let verdict = classify(&grpc(text, Place::Trailers));
        assert_eq!((verdict.code, verdict.blame), (Code::Unknown, Blame::Failed), "{text:?}");
    }
}

#[test]
fn a_grpc_call_without_a_status_is_judged_by_http() {
    let without = |http_status| Ending::from(How::Grpc { http_status, status: None, hints: NO_HINTS });
    let contradicting =
        How::Grpc { http_status: 503, status: Some((b"0", Place::Trailers)), hints: NO_HINTS };
    let refining = How::Grpc { http_status: 503, status: Some((b"8", Place::TrailersOnly)), hints: NO_HINTS };
    use Blame::*;
    use Executed::*;
    assert_rows(&[
        (without(200), "no_status", Failed, Yes, Code::Unknown, "UPE"),
        (without(302), "no_status", Failed, Yes, Code::Unknown, "UPE"),
        (without(404), "http_client_error", Caller, Perhaps, Code::NotFound, ""),
        (without(429), "http_too_many_requests", Overloaded, Perhaps, Code::ResourceExhausted, ""),
        (without(503), "http_server_error", Failed, Perhaps, Code::Unavailable, ""),
        (contradicting.into(), "http_server_error", Failed, Perhaps, Code::Unavailable, ""),
        (refining.into(), "RESOURCE_EXHAUSTED", Overloaded, Perhaps, Code::ResourceExhausted, ""),
    ]);
}

#[test]
fn http_statuses() {
    use Blame::*;
    use Executed::*;
    assert_rows(&[
        (http(100), "http_invalid", Failed, Perhaps, Code::Unknown, ""),
        (http(101), "http_success", Success, Yes, Code::Ok, ""),
        (http(103), "http_invalid", Failed, Perhaps, Code::Unknown, ""),
        (http(200), "http_success", Success, Yes, Code::Ok, ""),
        (http(204), "http_success", Success, Yes, Code::Ok, ""),
        (http(304), "http_success", Success, Yes, Code::Ok, ""),
        (http(400), "http_client_error", Caller, Perhaps, Code::InvalidArgument, ""),
        (http(401), "http_client_error", Caller, Perhaps, Code::Unauthenticated, ""),
        (http(403), "http_client_error", Caller, Perhaps, Code::PermissionDenied, ""),
        (http(404), "http_client_error", Caller, Perhaps, Code::NotFound, ""),
        (http(408), "http_client_error", Caller, Perhaps, Code::Unknown, ""),
        (http(409), "http_client_error", Caller, Perhaps, Code::Aborted, ""),
        (http(416), "http_client_error", Caller, Perhaps, Code::OutOfRange, ""),
        (http(429), "http_too_many_requests", Overloaded, Perhaps, Code::ResourceExhausted, ""),
        (http(499), "http_client_error", Caller, Perhaps, Code::Cancelled, ""),
        (http(500), "http_server_error", Failed, Perhaps, Code::Internal, ""),
        (http(501), "http_not_implemented", Caller, Perhaps, Code::Unimplemented, ""),
        (http(502), "http_server_error", Failed, Perhaps, Code::Unavailable, ""),
        (http(503), "http_server_error", Failed, Perhaps, Code::Unavailable, ""),
        (http(504), "http_server_error", Failed, Perhaps, Code::Unavailable, ""),
        (http(505), "http_not_implemented", Caller, Perhaps, Code::Unknown, ""),
        (http(507), "http_server_error", Failed, Perhaps, Code::Unknown, ""),
        (http(0), "http_invalid", Failed, Perhaps, Code::Unknown, ""),
        (http(600), "http_invalid", Failed, Perhaps, Code::Unknown, ""),
    ]);
}

#[test]
fn resets() {
    use Blame::*;
    use Executed::*;
    assert_rows(&[
        (reset(0x0), "reset", Failed, Perhaps, Code::Internal, "UR"),
        (reset(0x1), "reset", Failed, Perhaps, Code::Internal, "UR"),
        (reset(0x2), "reset", Failed, Perhaps, Code::Internal, "UR"),
        (reset(0x7), "refused_stream", Overloaded, Unprocessed, Code::Unavailable, "UR"),
        (begun(reset(0x7)), "reset", Failed, Yes, Code::Unavailable, "UR"),
        (reset(0x8), "reset", Failed, Perhaps, Code::Cancelled, "UR"),
        (begun(reset(0x8)), "reset", Failed, Yes, Code::Cancelled, "UR"),
        (client_reset(reset(0x8)), "cancelled", Nobody, Perhaps, Code::Cancelled, "DC"),
        (client_reset(reset(0x2)), "reset", Failed, Perhaps, Code::Internal, "UR"),
        (reset(0xb), "enhance_your_calm", Overloaded, Perhaps, Code::ResourceExhausted, "UR"),
        (reset(0xc), "reset", Failed, Perhaps, Code::PermissionDenied, "UR"),
        (reset(0xffff_ffff), "reset", Failed, Perhaps, Code::Internal, "UR"),
    ]);
}

#[test]
fn goaways() {
    use Blame::*;
    use Executed::*;
    let (calm, unavailable) = (Code::ResourceExhausted, Code::Unavailable);
    assert_rows(&[
        (go_away(0x0, true), "goaway_unprocessed", Nobody, Unprocessed, unavailable, "UR"),
        (go_away(0x2, true), "goaway_unprocessed", Failed, Unprocessed, unavailable, "UR"),
        (go_away(0xb, true), "goaway_unprocessed", Overloaded, Unprocessed, calm, "UR"),
        (go_away(0x0, false), "goaway", Failed, Perhaps, unavailable, "UC"),
        (go_away(0xb, false), "goaway", Overloaded, Perhaps, calm, "UC"),
        (begun(go_away(0x0, true)), "goaway", Failed, Yes, unavailable, "UC"),
        (begun(go_away(0x0, false)), "goaway", Failed, Yes, unavailable, "UC"),
    ]);
}

#[test]
fn connections_and_the_client() {
    use Blame::*;
    use Executed::*;
    let (unavailable, cancelled) = (Code::Unavailable, Code::Cancelled);
    assert_rows(&[
        (How::ConnectFailed.into(), "connect_failed", Failed, NotSent, unavailable, "UF"),
        (How::ClosedUnsent.into(), "closed_unsent", Nobody, NotSent, unavailable, "UC"),
        (How::Broken.into(), "broken", Failed, Perhaps, unavailable, "UC"),
        (begun(How::Broken.into()), "broken", Failed, Yes, unavailable, "UC"),
        (How::ProtocolError.into(), "protocol_error", Failed, Perhaps, Code::Internal, "UPE"),
        (How::Cancelled.into(), "cancelled", Nobody, Perhaps, cancelled, "DC"),
        (begun(How::Cancelled.into()), "cancelled", Nobody, Yes, cancelled, "DC"),
    ]);
}

#[test]
fn time_limits() {
    use Blame::*;
    use Executed::*;
    let first_byte = How::TimedOut(Timeout::FirstByte);
    let idle = How::TimedOut(Timeout::StreamIdle);
    let (late, unavailable) = (Code::DeadlineExceeded, Code::Unavailable);
    assert_rows(&[
        (How::TimedOut(Timeout::Connect).into(), "connect_timeout", Failed, NotSent, unavailable, "UF"),
        (first_byte.into(), "first_byte_timeout", Failed, Perhaps, unavailable, "UT"),
        (still_sending(first_byte), "first_byte_timeout", Nobody, Perhaps, unavailable, "UT"),
        (idle.into(), "stream_idle", Failed, Perhaps, unavailable, "SI"),
        (begun(idle.into()), "stream_idle", Nobody, Yes, unavailable, "SI"),
        (still_sending(idle), "stream_idle", Nobody, Perhaps, unavailable, "SI"),
        (begun(How::TimedOut(Timeout::StreamAge).into()), "stream_age", Nobody, Yes, unavailable, "UMSDR"),
        (deadline(Whose::Caller, true).into(), "deadline", Overloaded, Perhaps, late, "UT"),
        (deadline(Whose::Route, true).into(), "deadline", Failed, Perhaps, late, "UT"),
        (begun(deadline(Whose::Caller, true).into()), "deadline", Nobody, Yes, late, "UT"),
        (begun(deadline(Whose::Route, true).into()), "deadline", Nobody, Yes, late, "UT"),
        (still_sending(deadline(Whose::Route, true)), "deadline", Nobody, Perhaps, late, "UT"),
        (deadline(Whose::Caller, false).into(), "deadline", Nobody, NotSent, late, "UT"),
        (deadline(Whose::Route, false).into(), "deadline", Nobody, NotSent, late, "UT"),
    ]);
}

#[test]
fn what_is_refused_here_is_nobodys() {
    use Blame::Nobody;
    use Executed::NotSent;
    let refused = |refusal| How::Refused(refusal).into();
    let exhausted = Code::ResourceExhausted;
    assert_rows(&[
        (refused(Refusal::NoRoute), "no_route", Nobody, NotSent, Code::Unimplemented, "NR"),
        (refused(Refusal::NoHealthyBackend), "no_healthy_backend", Nobody, NotSent, Code::Unavailable, "UH"),
        (refused(Refusal::Overflow), "overflow", Nobody, NotSent, exhausted, "UO"),
        (refused(Refusal::RateLimited), "rate_limited", Nobody, NotSent, exhausted, "RL"),
    ]);
}

#[test]
fn pushback_is_read_as_the_proposal_says() {
    let grpc =
        |text: &'static str| Hints { grpc_retry_pushback_ms: Some(text.as_bytes()), retry_after: None };
    let http =
        |text: &'static str| Hints { grpc_retry_pushback_ms: None, retry_after: Some(text.as_bytes()) };
    let after = |millis| Some(Pushback::After(Duration::from_millis(millis)));
    let never = Some(Pushback::Never);
    let rows = [
        (NO_HINTS, None),
        (grpc("0"), after(0)),
        (grpc("250"), after(250)),
        (grpc("300000"), after(300_000)),
        (grpc("300001"), after(300_000)),
        (grpc("2147483647"), after(300_000)),
        (grpc("2147483648"), never),
        (grpc("-1"), never),
        (grpc("+1"), never),
        (grpc(""), never),
        (grpc("1.5"), never),
        (grpc("10,20"), never),
        (grpc("soon"), never),
        (http("0"), after(0)),
        (http("2"), after(2000)),
        (http("999"), after(300_000)),
        (http("-2"), never),
        (http("Wed, 21 Oct 2026 07:28:00 GMT"), never),
        (Hints { retry_after: Some(b"9"), ..grpc("5") }, after(5)),
    ];
    for (hints, expected) in rows {
        assert_eq!(hints.pushback(), expected, "{hints:?}");
        let overloaded = How::Grpc { http_status: 200, status: Some((b"8", Place::TrailersOnly)), hints };
        assert_eq!(classify(&overloaded.into()).pushback, expected);
        assert_eq!(classify(&How::Http { status: 503, hints }.into()).pushback, expected);
        assert_eq!(classify(&How::Http { status: 200, hints }.into()).pushback, None);
    }
}

#[test]
fn failing_fast_is_booked_as_slow() {
    let penalty = |ending: Ending<'_>| classify(&ending).penalty();
    let pushed = |text: &'static [u8]| {
        let hints = Hints { grpc_retry_pushback_ms: Some(text), retry_after: None };
        Ending::from(How::Grpc { http_status: 200, status: Some((b"14", Place::TrailersOnly)), hints })
    };
    assert_eq!(penalty(http(200)), None);
    assert_eq!(penalty(http(404)), None);
    assert_eq!(penalty(How::Cancelled.into()), None);
    assert_eq!(penalty(How::ConnectFailed.into()), Some(PENALTY));
    assert_eq!(penalty(http(429)), Some(PENALTY));
    assert_eq!(penalty(pushed(b"0")), Some(PENALTY));
    assert_eq!(penalty(pushed(b"60000")), Some(Duration::from_secs(60)));
    assert_eq!(penalty(pushed(b"-1")), Some(PENALTY));
}

fn endings() -> impl Strategy<Value = (u16, Option<Vec<u8>>, u32, u8, u8)> {
    let status = prop::option::of(prop::collection::vec(any::<u8>(), 0..4));
    (any::<u16>(), status, any::<u32>(), 0_u8..22, any::<u8>())
}

fn ending<'a>(status: u16, text: Option<&'a [u8]>, code: u32, kind: u8, bits: u8) -> Ending<'a> {
    let place = [Place::Headers, Place::TrailersOnly, Place::Trailers][usize::from(bits >> 6) % 3];
    let hints = Hints { grpc_retry_pushback_ms: text, retry_after: None };
    let whose = if bits & 16 == 0 { Whose::Caller } else { Whose::Route };
    let how = match kind {
        0..=2 => How::Http { status, hints },
        3..=6 => How::Grpc { http_status: status, status: text.map(|text| (text, place)), hints },
        7..=8 => How::Reset { code: code % 16 },
        9 => How::Reset { code },
        10..=11 => How::GoAway { code: code % 16, above_last_id: bits & 8 != 0 },
        12 => How::ConnectFailed,
        13 => How::ClosedUnsent,
        14 => How::Broken,
        15 => How::ProtocolError,
        16 => How::Cancelled,
        17 => How::Refused(Refusal::Overflow),
        18 => How::TimedOut(Timeout::Connect),
        19 => How::TimedOut(Timeout::FirstByte),
        20 => How::TimedOut(Timeout::StreamIdle),
        _ => How::TimedOut(Timeout::Deadline { whose, sent: bits & 32 != 0 }),
    };
    Ending {
        how,
        response_begun: bits & 1 != 0,
        request_complete: bits & 2 != 0,
        client_reset: bits & 4 != 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Nothing panics, equal endings get equal verdicts, and the parts of a verdict agree with each other.
    #[test]
    fn every_ending_has_one_consistent_verdict((status, text, code, kind, bits) in endings()) {
        let ending = ending(status, text.as_deref(), code, kind, bits);
        let verdict = classify(&ending);
        prop_assert_eq!(verdict, classify(&ending));
        prop_assert_eq!(verdict.blame == Blame::Success, verdict.code == Code::Ok);
        prop_assert!(verdict.blame != Blame::Success || verdict.executed == Executed::Yes);
        prop_assert!(verdict.pushback.is_none() || verdict.blame != Blame::Success);
        let answered = matches!(ending.how, How::Http { .. } | How::Grpc { .. });
        prop_assert!(answered || verdict.flag().is_some(), "what the gateway says itself has a flag");
        if ending.response_begun && matches!(ending.how, How::Reset { .. } | How::GoAway { .. } | How::Broken) {
            prop_assert_eq!(verdict.executed, Executed::Yes);
        }
    }
}

#[test]
fn every_http_status_and_every_code_gets_a_verdict() {
    for status in 0..=u16::MAX {
        let verdict = classify(&http(status));
        let expected = match status {
            101 | 200..=399 => Blame::Success,
            429 => Blame::Overloaded,
            400..=499 | 501 | 505 => Blame::Caller,
            _ => Blame::Failed,
        };
        assert_eq!(verdict.blame, expected, "{status}");
        assert_eq!(verdict.code == Code::Ok, expected == Blame::Success, "{status}");
    }
    for number in 0..=1000_usize {
        let text = number.to_string();
        let expected = Code::ALL.get(number).copied().unwrap_or(Code::Unknown);
        assert_eq!(classify(&grpc(&text, Place::Trailers)).code, expected, "{number}");
        assert!(number > 16 || expected as usize == number);
    }
}

#[test]
fn a_set_holds_what_was_put_in() {
    let odd: Codes = Code::ALL.into_iter().filter(|code| *code as u8 % 2 == 1).collect();
    assert!(Code::ALL.into_iter().all(|code| odd.contains(code) == (code as u8 % 2 == 1)));
}
