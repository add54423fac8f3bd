//! The S3 server itself, run by the hidden subcommand of the binary.
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use hyper::{Method, Request, body::Incoming, header::IF_NONE_MATCH, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, sync::Mutex};
use tokio_util::task::TaskTracker;

use super::S3;

/// Serves the folders in `root` as buckets on 127.0.0.1, until it is killed.
///
/// # Errors
/// When the folder cannot be used or the port cannot be bound.
pub async fn serve(root: &Path, port: u16) -> io::Result<()> {
    let files = FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(S3::ACCESS_KEY_ID, S3::SECRET_ACCESS_KEY));
    let service = service.build();
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let creating = Arc::new(Mutex::new(()));
    let connections = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let (service, creating) = (service.clone(), Arc::clone(&creating));
        let answer = service_fn(move |request: Request<Incoming>| {
            let (service, creating) = (service.clone(), Arc::clone(&creating));
            async move {
                // s3s-fs looks for the object and then writes it; stores that keep what they promise do so in one step.
                let conditional =
                    request.method() == Method::PUT && request.headers().contains_key(IF_NONE_MATCH);
                let _alone = if conditional { Some(creating.lock().await) } else { None };
                service.call(request.map(s3s::Body::from)).await
            }
        });
        connections.spawn(async move {
            let connections = Builder::new(TokioExecutor::new());
            // A client that goes away in the middle is no failure of the server.
            let _ = connections.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
