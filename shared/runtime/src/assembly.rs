//! What a service gives the runtime, and what it gets from it.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc};

use axum::Router;
use http::Request;
use tokio::{
    net::TcpStream,
    sync::{Notify, OwnedSemaphorePermit},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::{body::Body, server::NamedService};
use tower::Service as TowerService;
use weft_mesh::{identity::Signer, tls::ServerTls};

use crate::{Authenticate, Config, Readiness};

/// A service of the mesh.
pub trait Service: Send + 'static {
    /// Its name: the package `weft-<name>`, the variables `WEFT_<NAME>__…`, and `service.name` in telemetry.
    const NAME: &'static str;
    /// Its configuration.
    type Config: Config;
    /// Whether it reads its configuration again when [`Scope::reload`] says so.
    const RELOADS: bool = false;

    /// Builds it: opens its backend, starts its loops on `scope.tasks`. Fails only for what no waiting can mend, such
    /// as an unusable data directory; a backend that cannot be reached yet leaves it unready.
    fn assemble(config: Self::Config, scope: Scope) -> impl Future<Output = anyhow::Result<Assembly>> + Send;
}

/// What a service runs in. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Background tasks, which end at `stopping`: loops, probes, connections to other services.
    pub tasks: TaskTracker,
    /// Work that draining lets finish: client connections, running jobs.
    pub work: TaskTracker,
    /// Cancelled when draining begins: take no new work, end endless streams.
    pub draining: CancellationToken,
    /// Cancelled when the time for draining is over, a moment before `stopping`: end what is left with a status.
    pub ending: CancellationToken,
    /// Cancelled at the end: stop now.
    pub stopping: CancellationToken,
    /// Whether the service's own backend can be used.
    pub ready: Readiness,
    /// Notified when the operator asks for the configuration to be read again (SIGHUP).
    pub reload: Arc<Notify>,
    /// Signs the calls to other services, where they authenticate their callers.
    pub signer: Option<Arc<Signer>>,
}

/// A connection that a listener accepted. It counts against the limit until it is dropped.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    /// Who connected.
    pub peer: SocketAddr,
    /// By which listener it came, in the order of [`Config::addresses`].
    pub listener: usize,
    /// What secures it.
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// Whether HTTP/2 clients are told that they may open tunnels.
    pub(crate) tunnels: bool,
    pub(crate) place: Arc<OwnedSemaphorePermit>,
    /// Keeps a drain waiting while the connection is between accepting it and serving it.
    pub(crate) handover: TaskTrackerToken,
}

impl Connection {
    /// A connection with its place among the permitted ones.
    #[must_use]
    pub fn new(stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit, scope: &Scope) -> Self {
        // Without it small frames wait for acknowledgements.
        let _ = stream.set_nodelay(true);
        let (place, handover) = (Arc::new(permit), scope.work.token());
        Self { stream, peer, listener: 0, tls: None, tunnels: false, place, handover }
    }

    /// By another listener than the first.
    #[must_use]
    pub(crate) fn by(self, listener: usize) -> Self {
        Self { listener, ..self }
    }

    /// Secures it before a byte of it is served; `None` leaves it as it is.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<ServerTls>>) -> Self {
        Self { tls, ..self }
    }

    /// Whether it is secured.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Tells HTTP/2 clients that they may open tunnels (RFC 8441).
    #[must_use]
    pub fn with_tunnels(self) -> Self {
        Self { tunnels: true, ..self }
    }

    /// Its place among the permitted ones, for what outlives it: a socket that changed its protocol still counts.
    #[must_use]
    pub fn place(&self) -> Arc<OwnedSemaphorePermit> {
        Arc::clone(&self.place)
    }

    /// Registers the socket with the runtime that this is called on, instead of the one that accepted it.
    ///
    /// # Errors
    /// When the runtime cannot take it.
    pub fn moved(self) -> io::Result<Self> {
        let stream = TcpStream::from_std(self.stream.into_std()?)?;
        Ok(Self { stream, ..self })
    }
}

/// Takes accepted connections, for a service that serves them itself.
pub trait Accept: Send + Sync + 'static {
    /// Serves a connection, on tasks of its own.
    fn accept(&self, connection: Connection);
}

/// The parts of a service that the runtime serves.
#[derive(Default)]
pub struct Assembly {
    pub(crate) public: Router,
    pub(crate) admin: Router,
    pub(crate) names: Vec<&'static str>,
    pub(crate) acceptor: Option<Arc<dyn Accept>>,
    pub(crate) operators: Option<Arc<dyn Authenticate>>,
}

impl Assembly {
    /// A gRPC service.
    #[must_use]
    pub fn grpc<S>(server: S) -> Self
    where
        S: TowerService<Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Self::default().and_grpc(server)
    }

    /// One more gRPC service on the same port.
    #[must_use]
    pub fn and_grpc<S>(mut self, server: S) -> Self
    where
        S: TowerService<Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.public = mount(self.public, server);
        self.names.push(S::NAME);
        self
    }

    /// HTTP beside gRPC on the same port. The router must not have a fallback.
    #[must_use]
    pub fn with_http(mut self, router: Router) -> Self {
        self.public = self.public.merge(router);
        self
    }

    /// A gRPC service on the admin port.
    #[must_use]
    pub fn with_admin_grpc<S>(mut self, server: S) -> Self
    where
        S: TowerService<Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.admin = mount(self.admin, server);
        self
    }

    /// Says who calls on the admin port, instead of [`Config::identity`].
    #[must_use]
    pub fn with_operators(mut self, operators: Arc<dyn Authenticate>) -> Self {
        self.operators = Some(operators);
        self
    }

    /// Connections are handed over as they are accepted, instead of being served by the runtime.
    #[must_use]
    pub fn with_acceptor(mut self, acceptor: Arc<dyn Accept>) -> Self {
        self.acceptor = Some(acceptor);
        self
    }
}

/// Adds a gRPC service to a router under its name.
pub(crate) fn mount<S>(router: Router, server: S) -> Router
where
    S: TowerService<Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let server = tower::ServiceBuilder::new()
        .map_request(|request: Request<axum::body::Body>| request.map(Body::new))
        .service(server);
    router.route_service(&format!("/{}/{{*method}}", S::NAME), server)
}
