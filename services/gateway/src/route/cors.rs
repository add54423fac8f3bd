//! Which web pages may call a route from their own origin (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::Cors;

/// What pages may ask, ready to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossOrigin {
    /// `None` for all.
    origins: Option<Vec<String>>,
    credentials: bool,
    /// In seconds.
    max_age: HeaderValue,
    exposed: HeaderValue,
}

/// What clients of gRPC-Web have to see.
const EXPOSED: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

impl CrossOrigin {
    /// What a route's configuration allows.
    #[must_use]
    pub fn new(config: &Cors) -> Self {
        let any = config.origins.iter().any(|origin| origin == "*");
        let exposed = EXPOSED.into_iter().chain(config.expose_headers.iter().map(String::as_str));
        // Validation has seen to it that the names are names.
        let exposed = HeaderValue::try_from(exposed.collect::<Vec<_>>().join(", "));
        Self {
            origins: (!any).then(|| config.origins.clone()),
            credentials: config.credentials,
            max_age: HeaderValue::from(config.max_age.as_secs()),
            exposed: exposed.unwrap_or_else(|_| HeaderValue::from_static("grpc-status, grpc-message")),
        }
    }

    /// Whether pages of an origin may call.
    #[must_use]
    pub fn allows(&self, origin: &HeaderValue) -> bool {
        let listed =
            |origins: &Vec<String>| origins.iter().any(|listed| listed.as_bytes() == origin.as_bytes());
        self.origins.as_ref().is_none_or(listed)
    }

    /// Lets a page of an origin read an answer, if it may; without an origin, nobody.
    pub fn admit(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        // A cache must not give one page's answer to another.
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        for name in ALLOWANCES {
            headers.remove(name);
        }
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone());
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// The headers of the answer to a page that asks beforehand, in a request with these headers.
    #[must_use]
    pub fn preflight(&self, asked: &HeaderMap, origin: &HeaderValue) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.admit(&mut headers, Some(origin));
        if headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS).is_some() {
            // What a page sends is between it and the backend: every header that it names may come.
            let echoed = [
                (header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_ALLOW_METHODS),
                (header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_ALLOW_HEADERS),
            ];
            for (request, allowed) in echoed {
                headers.extend(asked.get(request).map(|value| (allowed, value.clone())));
            }
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        headers
    }
}

/// Who may read an answer is said here, and not by a backend too.
const ALLOWANCES: [HeaderName; 3] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> CrossOrigin {
        CrossOrigin::new(&Cors {
            origins: origins.iter().map(ToString::to_string).collect(),
            credentials,
            expose_headers: vec!["x-request-id".into()],
            max_age: Duration::from_secs(60),
        })
    }

    const PAGE: HeaderValue = HeaderValue::from_static("https://chat.example");

    #[test]
    fn a_page_that_asks_beforehand_is_told_what_it_may() {
        let mut asked = HeaderMap::new();
        asked.insert("access-control-request-method", "POST".parse().unwrap());
        asked.insert("access-control-request-headers", "content-type,x-grpc-web".parse().unwrap());
        let told = cors(&["https://chat.example"], true).preflight(&asked, &PAGE);
        assert_eq!(told["access-control-allow-origin"], "https://chat.example");
        assert_eq!(told["access-control-allow-methods"], "POST");
        assert_eq!(told["access-control-allow-headers"], "content-type,x-grpc-web");
        assert_eq!(told["access-control-allow-credentials"], "true");
        assert_eq!(told["access-control-max-age"], "60");
        let told = cors(&["https://other.example"], true).preflight(&asked, &PAGE);
        assert_eq!(told.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["vary"]);
    }

    #[test]
    fn only_a_page_of_a_listed_origin_reads_an_answer_whatever_the_backend_says() {
        let answered = |cors: &CrossOrigin, origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("access-control-allow-origin", "*".parse().unwrap());
            cors.admit(&mut headers, Some(&HeaderValue::from_static(origin)));
            headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
        };
        let listed = cors(&["https://chat.example"], false);
        assert_eq!(answered(&listed, "https://chat.example").as_deref(), Some("https://chat.example"));
        for other in ["https://chat.example.evil", "http://chat.example", "null", "https://CHAT.example"] {
            assert_eq!(answered(&listed, other), None, "{other}");
        }
        assert_eq!(
            answered(&cors(&["*"], false), "https://any.example").as_deref(),
            Some("https://any.example")
        );
    }
}
