//! Model servers that answer as a test tells them to.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use weft_runtime::{Connection, Scope, config::Lifecycle, serve_connection};

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What a server does with the next call.
pub(crate) enum Answer {
    /// A status, and after how many seconds to come again.
    Status(u16, Option<&'static str>),
    /// Nothing.
    Hang,
    /// Events, as they are sent here.
    Stream(mpsc::Receiver<&'static str>),
}

/// A call as it came.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A model server. Without being told otherwise it says every call again.
#[derive(Clone)]
pub(crate) struct ModelServer {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    /// What it lists; `None`: it never answers that.
    list: Arc<Mutex<Option<String>>>,
    /// How it was asked for its list.
    listed: Arc<Mutex<Vec<Call>>>,
    /// What its metrics say.
    load: Arc<Mutex<String>>,
    scope: Scope,
}

impl ModelServer {
    /// One that lists these models.
    pub(crate) async fn start(models: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            calls: Arc::default(),
            answers: Arc::default(),
            list: Arc::default(),
            listed: Arc::default(),
            load: Arc::default(),
            scope: Scope::default(),
        };
        server.lists(models);
        server.scope.tasks.spawn(server.clone().accept(listener));
        server
    }

    pub(crate) fn lists(&self, models: &[&str]) {
        let entry = |model: &&str| format!(r#"{{"id":"{model}", "port": {}}}"#, self.address.port());
        let entries: Vec<_> = models.iter().map(entry).collect();
        *self.list.lock().unwrap() =
            Some(format!(r#"{{"object": "list", "data": [{}]}}"#, entries.join(", ")));
    }

    /// From now on it does not answer when it is asked for its models.
    pub(crate) fn lists_nothing(&self) {
        *self.list.lock().unwrap() = None;
    }

    /// From now on its metrics say that it has so many requests.
    pub(crate) fn is_loaded(&self, running: u64, waiting: u64) {
        *self.load.lock().unwrap() = format!(
            "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{{engine=\"0\"}} {running}.0\n\
             vllm:num_requests_waiting{{engine=\"0\"}} {waiting}.0\n"
        );
    }

    pub(crate) fn answers(&self, answer: Answer) {
        self.answers.lock().unwrap().push_back(answer);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn listed(&self) -> Vec<Call> {
        self.listed.lock().unwrap().clone()
    }

    /// Ends it like kill -9.
    pub(crate) async fn kill(&self) {
        self.scope.stopping.cancel();
        self.scope.tasks.close();
        self.scope.tasks.wait().await;
    }

    async fn accept(self, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(1000));
        loop {
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                () = self.scope.stopping.cancelled() => return,
            };
            let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
            let server = self.clone();
            self.scope.tasks.spawn(async move {
                let scope = server.scope.clone();
                let handler = move |request| server.clone().answer(request);
                let connection = Connection::new(stream, peer, permit, &scope);
                serve_connection(connection, handler, &scope, &Lifecycle::default()).await;
            });
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let call = Call { target: parts.uri.to_string(), headers: parts.headers, body: body.clone() };
        if call.target.ends_with("/models") {
            self.listed.lock().unwrap().push(call);
            let list = self.list.lock().unwrap().clone();
            return match list {
                Some(list) => whole(200, list.into()),
                None => std::future::pending().await,
            };
        }
        if call.target == "/metrics" {
            let load = self.load.lock().unwrap().clone();
            return whole(200, load.into());
        }
        self.calls.lock().unwrap().push(call);
        let answer = self.answers.lock().unwrap().pop_front();
        match answer {
            None => whole(200, body),
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Status(status, after)) => {
                let mut response = whole(status, Bytes::from_static(b"{\"own\": true}"));
                if let Some(after) = after {
                    response.headers_mut().insert("retry-after", after.parse().unwrap());
                }
                response
            }
            Some(Answer::Stream(events)) => {
                let frames = ReceiverStream::new(events)
                    .map(|event| Ok(Frame::data(Bytes::from_static(event.as_bytes()))));
                let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
                response
                    .headers_mut()
                    .insert("content-type", "text/event-stream; charset=utf-8".parse().unwrap());
                response
            }
        }
    }
}

fn whole(status: u16, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}
