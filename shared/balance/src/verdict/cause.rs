//! What happened to an attempt, as closed labels: for metrics, and as Envoy's response flags.

use super::Code;

/// What happened. [`label`](Self::label) is upper case where it is the backend's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The backend answered with a gRPC status.
    Grpc(Code),
    /// The backend answered a gRPC call to the end, without a gRPC status.
    NoStatus,
    /// The backend answered with an HTTP status, and none of gRPC.
    Http(HttpClass),
    /// The backend reset the stream.
    Reset,
    /// The backend reset the stream before it looked at it.
    RefusedStream,
    /// The backend reset the stream because it gets too much.
    EnhanceYourCalm,
    /// The backend sent GOAWAY before it looked at the stream.
    GoAwayUnprocessed,
    /// The backend sent GOAWAY and left a stream that it had taken.
    GoAway,
    /// No connection came about.
    ConnectFailed,
    /// The connection was closed before the request was sent.
    ClosedUnsent,
    /// The connection broke.
    Broken,
    /// The backend broke the protocol.
    ProtocolError,
    /// No connection in time.
    ConnectTimeout,
    /// No first byte in time.
    FirstByteTimeout,
    /// Nothing moved on the stream for too long.
    StreamIdle,
    /// The stream is to begin anew, perhaps elsewhere.
    StreamAge,
    /// The call's deadline.
    Deadline,
    /// The client went away.
    Cancelled,
    /// Refused here: no route.
    NoRoute,
    /// Refused here: no healthy backend.
    NoHealthyBackend,
    /// Refused here: limits and queue are full.
    Overflow,
    /// Refused here: over the rate.
    RateLimited,
}

/// A class of HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpClass {
    /// 101, 2xx and 3xx.
    Success,
    /// 4xx but 429.
    ClientError,
    /// 429.
    TooManyRequests,
    /// 501 and 505: the server cannot do what was asked, and is well.
    NotImplemented,
    /// 5xx but those.
    ServerError,
    /// None that may end a response.
    Invalid,
}

impl Cause {
    /// The label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grpc(code) => code.as_str(),
            Self::NoStatus => "no_status",
            Self::Http(class) => class.label(),
            Self::Reset => "reset",
            Self::RefusedStream => "refused_stream",
            Self::EnhanceYourCalm => "enhance_your_calm",
            Self::GoAwayUnprocessed => "goaway_unprocessed",
            Self::GoAway => "goaway",
            Self::ConnectFailed => "connect_failed",
            Self::ClosedUnsent => "closed_unsent",
            Self::Broken => "broken",
            Self::ProtocolError => "protocol_error",
            Self::ConnectTimeout => "connect_timeout",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::StreamIdle => "stream_idle",
            Self::StreamAge => "stream_age",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::NoRoute => "no_route",
            Self::NoHealthyBackend => "no_healthy_backend",
            Self::Overflow => "overflow",
            Self::RateLimited => "rate_limited",
        }
    }

    /// Whether the transport failed, not the application: another connection or backend may do better.
    #[must_use]
    pub const fn is_transport(self) -> bool {
        matches!(
            self,
            Self::Reset
                | Self::RefusedStream
                | Self::GoAwayUnprocessed
                | Self::GoAway
                | Self::ConnectFailed
                | Self::ClosedUnsent
                | Self::Broken
                | Self::ConnectTimeout
                | Self::FirstByteTimeout
        )
    }

    /// The response flag of Envoy's access log.
    #[must_use]
    pub const fn flag(self) -> Option<Flag> {
        Some(match self {
            Self::Grpc(_) | Self::Http(_) => return None,
            Self::NoStatus | Self::ProtocolError => Flag::UpstreamProtocolError,
            // Envoy treats a stream above GOAWAY's last id as one that was reset.
            Self::Reset | Self::RefusedStream | Self::EnhanceYourCalm | Self::GoAwayUnprocessed => {
                Flag::UpstreamRemoteReset
            }
            Self::GoAway | Self::ClosedUnsent | Self::Broken => Flag::UpstreamConnectionTermination,
            Self::ConnectFailed | Self::ConnectTimeout => Flag::UpstreamConnectionFailure,
            Self::FirstByteTimeout | Self::Deadline => Flag::UpstreamRequestTimeout,
            Self::StreamIdle => Flag::StreamIdleTimeout,
            Self::StreamAge => Flag::UpstreamMaxStreamDurationReached,
            Self::Cancelled => Flag::DownstreamConnectionTermination,
            Self::NoRoute => Flag::NoRoute,
            Self::NoHealthyBackend => Flag::NoHealthyUpstream,
            Self::Overflow => Flag::UpstreamOverflow,
            Self::RateLimited => Flag::RateLimited,
        })
    }
}

impl HttpClass {
    const fn label(self) -> &'static str {
        match self {
            Self::Success => "http_success",
            Self::ClientError => "http_client_error",
            Self::TooManyRequests => "http_too_many_requests",
            Self::NotImplemented => "http_not_implemented",
            Self::ServerError => "http_server_error",
            Self::Invalid => "http_invalid",
        }
    }
}

/// A response flag of Envoy's access log, `%RESPONSE_FLAGS%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Envoy's long names
pub enum Flag {
    DownstreamConnectionTermination,
    NoHealthyUpstream,
    NoRoute,
    RateLimited,
    StreamIdleTimeout,
    UpstreamConnectionFailure,
    UpstreamConnectionTermination,
    UpstreamMaxStreamDurationReached,
    UpstreamOverflow,
    UpstreamProtocolError,
    UpstreamRemoteReset,
    UpstreamRequestTimeout,
}

impl Flag {
    /// The short name, such as `UF`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DownstreamConnectionTermination => "DC",
            Self::NoHealthyUpstream => "UH",
            Self::NoRoute => "NR",
            Self::RateLimited => "RL",
            Self::StreamIdleTimeout => "SI",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamMaxStreamDurationReached => "UMSDR",
            Self::UpstreamOverflow => "UO",
            Self::UpstreamProtocolError => "UPE",
            Self::UpstreamRemoteReset => "UR",
            Self::UpstreamRequestTimeout => "UT",
        }
    }
}
