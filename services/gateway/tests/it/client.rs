//! A client that sees frames, not messages.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::task::TaskTracker;
use tonic::Status;
use weft_mesh::error::CallError;

type Sending = StreamBody<
    std::pin::Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Send>>,
>;

/// One HTTP/2 connection to the gateway.
#[derive(Clone)]
pub(crate) struct Client {
    sender: http2::SendRequest<Sending>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    /// On a connection that was made already.
    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        TaskTracker::new().spawn(connection);
        Self { sender }
    }

    /// Begins a call whose request is sent through the returned sender.
    pub(crate) async fn open(
        &self,
        method: &str,
        headers: &[(&str, &str)],
    ) -> (mpsc::Sender<Bytes>, Response<Incoming>) {
        self.open_of(&format!("grpc.testing.TestService/{method}"), headers).await
    }

    /// The same for a method of any service.
    pub(crate) async fn open_of(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (mpsc::Sender<Bytes>, Response<Incoming>) {
        let (send, receive) = mpsc::channel(16);
        let frames = ReceiverStream::new(receive).map(|data| Ok(Frame::data(data)));
        let mut request = Request::post(format!("http://gateway/{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(StreamBody::new(Box::pin(frames) as _)).unwrap();
        (send, self.sender.clone().send_request(request).await.unwrap())
    }

    /// A unary call: the response's bytes and trailers, or the failure.
    pub(crate) async fn unary(
        &self,
        method: &str,
        data: &'static [u8],
        headers: &[(&str, &str)],
    ) -> Result<(Bytes, HeaderMap), CallError> {
        self.unary_of(&format!("grpc.testing.TestService/{method}"), data, headers).await
    }

    /// The same for a method of any service.
    pub(crate) async fn unary_of(
        &self,
        path: &str,
        data: &'static [u8],
        headers: &[(&str, &str)],
    ) -> Result<(Bytes, HeaderMap), CallError> {
        let frames = futures::stream::iter([Ok(Frame::data(Bytes::from_static(data)))]);
        let mut request =
            Request::post(format!("http://gateway/{path}")).header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(StreamBody::new(Box::pin(frames) as _)).unwrap();
        let response = self.sender.clone().send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut headers = response.headers().clone();
        let body = response.into_body().collect().await.unwrap();
        headers.extend(body.trailers().cloned().unwrap_or_default());
        match Status::from_header_map(&headers) {
            Some(status) if status.code() != tonic::Code::Ok => Err(status.into()),
            _ => Ok((body.to_bytes(), headers)),
        }
    }
}

/// A whole HTTP/1.1 exchange, as text.
pub(crate) async fn http(address: SocketAddr, request: &str) -> String {
    http_over(TcpStream::connect(address).await.unwrap(), request).await
}

/// On a connection that was made already.
pub(crate) async fn http_over(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}
