//! The table: from how an attempt ended to the verdict.

use super::{
    Blame, Cause, Code, Ending, Executed, Hints, How, HttpClass, Place, Refusal, Timeout, Verdict, Whose,
};

// Error codes of RFC 9113 §7.
const NO_ERROR: u32 = 0x0;
const REFUSED_STREAM: u32 = 0x7;
const CANCEL: u32 = 0x8;
const ENHANCE_YOUR_CALM: u32 = 0xb;
const INADEQUATE_SECURITY: u32 = 0xc;

/// The verdict on one attempt. Total: every ending has exactly one, and none panics.
#[must_use]
pub fn classify(ending: &Ending<'_>) -> Verdict {
    match ending.how {
        How::Http { status, hints } => hinted(http(status), hints),
        How::Grpc { http_status, status, hints } => hinted(grpc(http_status, status, ending), hints),
        How::Reset { code } => reset(code, ending),
        How::GoAway { code, above_last_id } => go_away(code, above_last_id, ending),
        How::ConnectFailed => {
            plain(Cause::ConnectFailed, Blame::Failed, Executed::NotSent, Code::Unavailable)
        }
        // An idle connection may close at any time, and a dead backend shows at the next connect.
        How::ClosedUnsent => plain(Cause::ClosedUnsent, Blame::Nobody, Executed::NotSent, Code::Unavailable),
        How::Broken => plain(Cause::Broken, Blame::Failed, begun(ending), Code::Unavailable),
        How::ProtocolError => plain(Cause::ProtocolError, Blame::Failed, begun(ending), Code::Internal),
        How::TimedOut(timeout) => timed_out(timeout, ending),
        How::Cancelled => plain(Cause::Cancelled, Blame::Nobody, begun(ending), Code::Cancelled),
        How::Refused(refusal) => refused(refusal),
    }
}

const fn plain(cause: Cause, blame: Blame, executed: Executed, code: Code) -> Verdict {
    Verdict { cause, blame, executed, code, pushback: None }
}

fn hinted(verdict: Verdict, hints: Hints<'_>) -> Verdict {
    let pushback = if verdict.blame == Blame::Success { None } else { hints.pushback() };
    Verdict { pushback, ..verdict }
}

const fn begun(ending: &Ending<'_>) -> Executed {
    if ending.response_begun { Executed::Yes } else { Executed::Perhaps }
}

const fn http(status: u16) -> Verdict {
    let (class, blame, executed) = match status {
        101 | 200..=399 => (HttpClass::Success, Blame::Success, Executed::Yes),
        429 => (HttpClass::TooManyRequests, Blame::Overloaded, Executed::Perhaps),
        400..=499 => (HttpClass::ClientError, Blame::Caller, Executed::Perhaps),
        501 | 505 => (HttpClass::NotImplemented, Blame::Caller, Executed::Perhaps),
        500..=599 => (HttpClass::ServerError, Blame::Failed, Executed::Perhaps),
        // RFC 9110 §15: treated as a 5xx.
        _ => (HttpClass::Invalid, Blame::Failed, Executed::Perhaps),
    };
    let code = match class {
        HttpClass::Invalid => Code::Unknown,
        _ => Code::from_http(status),
    };
    plain(Cause::Http(class), blame, executed, code)
}

fn grpc(http_status: u16, status: Option<(&[u8], Place)>, ending: &Ending<'_>) -> Verdict {
    let without = http(http_status);
    let failed = without.blame != Blame::Success;
    let Some((text, place)) = status else {
        let missing = plain(Cause::NoStatus, Blame::Failed, Executed::Yes, Code::Unknown);
        return if failed { without } else { missing };
    };
    let code = Code::parse(text);
    if code == Code::Ok && failed {
        return without;
    }
    let executed = match place {
        Place::Headers | Place::TrailersOnly if code != Code::Ok => Executed::Perhaps,
        Place::Headers | Place::TrailersOnly | Place::Trailers => Executed::Yes,
    };
    plain(Cause::Grpc(code), said(code, ending), executed, code)
}

/// Who is to blame when a backend answers with a code.
const fn said(code: Code, ending: &Ending<'_>) -> Blame {
    match code {
        Code::Ok => Blame::Success,
        Code::Unknown | Code::Internal | Code::Unavailable | Code::DataLoss => Blame::Failed,
        // Its deadline is the caller's, so it is as soft as the same deadline noticed here.
        Code::ResourceExhausted | Code::DeadlineExceeded => Blame::Overloaded,
        Code::Cancelled if ending.client_reset => Blame::Nobody,
        // It gave up a call that nobody had cancelled, such as when it stops.
        Code::Cancelled => Blame::Overloaded,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Blame::Caller,
    }
}

/// Codes as in gRPC's `PROTOCOL-HTTP2.md`, "Errors". A code that is unknown is an internal error (RFC 9113 §7).
const fn reset(code: u32, ending: &Ending<'_>) -> Verdict {
    match code {
        // What has answered was processed, whatever it says then.
        REFUSED_STREAM if !ending.response_begun => {
            plain(Cause::RefusedStream, Blame::Overloaded, Executed::Unprocessed, Code::Unavailable)
        }
        REFUSED_STREAM => plain(Cause::Reset, Blame::Failed, Executed::Yes, Code::Unavailable),
        CANCEL if ending.client_reset => {
            plain(Cause::Cancelled, Blame::Nobody, begun(ending), Code::Cancelled)
        }
        // Several servers reset with CANCEL when a handler panics or is dropped.
        CANCEL => plain(Cause::Reset, Blame::Failed, begun(ending), Code::Cancelled),
        ENHANCE_YOUR_CALM => {
            plain(Cause::EnhanceYourCalm, Blame::Overloaded, begun(ending), Code::ResourceExhausted)
        }
        INADEQUATE_SECURITY => plain(Cause::Reset, Blame::Failed, begun(ending), Code::PermissionDenied),
        _ => plain(Cause::Reset, Blame::Failed, begun(ending), Code::Internal),
    }
}

const fn go_away(code: u32, above_last_id: bool, ending: &Ending<'_>) -> Verdict {
    let unprocessed = above_last_id && !ending.response_begun;
    let (cause, executed) = if unprocessed {
        (Cause::GoAwayUnprocessed, Executed::Unprocessed)
    } else {
        (Cause::GoAway, begun(ending))
    };
    match code {
        ENHANCE_YOUR_CALM => plain(cause, Blame::Overloaded, executed, Code::ResourceExhausted),
        // How a backend says that it stops.
        NO_ERROR if unprocessed => plain(cause, Blame::Nobody, executed, Code::Unavailable),
        _ => plain(cause, Blame::Failed, executed, Code::Unavailable),
    }
}

const fn timed_out(timeout: Timeout, ending: &Ending<'_>) -> Verdict {
    let (cause, code) = match timeout {
        Timeout::Connect => {
            return plain(Cause::ConnectTimeout, Blame::Failed, Executed::NotSent, Code::Unavailable);
        }
        Timeout::Deadline { sent: false, .. } => {
            return plain(Cause::Deadline, Blame::Nobody, Executed::NotSent, Code::DeadlineExceeded);
        }
        Timeout::FirstByte => (Cause::FirstByteTimeout, Code::Unavailable),
        Timeout::StreamIdle => (Cause::StreamIdle, Code::Unavailable),
        Timeout::StreamAge => (Cause::StreamAge, Code::Unavailable),
        Timeout::Deadline { .. } => (Cause::Deadline, Code::DeadlineExceeded),
    };
    let blame = match timeout {
        // The operator wants it elsewhere.
        Timeout::StreamAge => Blame::Nobody,
        // It has answered. Many a stream is quiet for as long as nothing happens, and is ended by its deadline.
        _ if ending.response_begun => Blame::Nobody,
        // While the client may still send, the silence may be its own.
        _ if !ending.request_complete => Blame::Nobody,
        // A caller that gives a millisecond must not be able to eject a backend by itself.
        Timeout::Deadline { whose: Whose::Caller, .. } => Blame::Overloaded,
        _ => Blame::Failed,
    };
    plain(cause, blame, begun(ending), code)
}

const fn refused(refusal: Refusal) -> Verdict {
    let (cause, code) = match refusal {
        Refusal::NoRoute => (Cause::NoRoute, Code::Unimplemented),
        Refusal::NoHealthyBackend => (Cause::NoHealthyBackend, Code::Unavailable),
        Refusal::Overflow => (Cause::Overflow, Code::ResourceExhausted),
        Refusal::RateLimited => (Cause::RateLimited, Code::ResourceExhausted),
    };
    plain(cause, Blame::Nobody, Executed::NotSent, code)
}
