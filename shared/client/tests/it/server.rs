//! A server whose connections can be cut.

use std::net::SocketAddr;

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

/// Cuts every connection that is open, and spares those to come.
#[derive(Clone, Default)]
pub(crate) struct Scissors(watch::Sender<()>);

impl Scissors {
    pub(crate) fn cut(&self) {
        self.0.send_replace(());
    }
}

/// A running server; its listener and connections close when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) scissors: Scissors,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Serves on a free port.
    pub(crate) fn start(routes: impl FnOnce(Scissors) -> Routes) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), routes)
    }

    /// Serves at an address; `routes` gets what cuts the connections.
    pub(crate) fn start_at(address: SocketAddr, routes: impl FnOnce(Scissors) -> Routes) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let (scissors, stop) = (Scissors::default(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let accepting =
            accept(listener, routes(scissors.clone()), scissors.clone(), stop.clone(), tasks.clone());
        tasks.spawn(accepting);
        Self { address, scissors, stop, tasks }
    }

    /// Closes the listener and every connection, and waits until they are.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.scissors.cut();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.scissors.cut();
    }
}

async fn accept(
    listener: TcpListener,
    routes: Routes,
    scissors: Scissors,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let service = routes.prepare();
    loop {
        let (connection, _) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            () = stop.cancelled() => return,
        };
        let (service, mut cut) = (TowerToHyperService::new(service.clone()), scissors.0.subscribe());
        tasks.spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            tokio::select! {
                _ = builder.serve_connection(TokioIo::new(connection), service) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

/// Methods that the test does not call.
macro_rules! unused {
    ($($method:ident: $request:ident -> $response:ident;)*) => {$(
        fn $method<'a, 'b>(
            &'a self,
            _: tonic::Request<pb::$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<tonic::Response<pb::$response>, tonic::Status>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(tonic::Status::unimplemented("not in this test")) })
        }
    )*};
}
pub(crate) use unused;
