//! The forwarding threads: each runs its own connections, from clients and to backends, and shares none of them.
//!
//! Accepted connections go to the thread that has the fewest, so that a few busy clients do not share a core while
//! another idles, as SO_REUSEPORT's hashing would have it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::sync::mpsc;
use weft_runtime::{Accept, Connection, Scope, serve_connection};

use crate::{
    certificates::Certificates,
    forward::{Caller, Common, Forwarder},
    table::Tables,
};

/// Connections on their way to a thread; it takes them at once unless it is overwhelmed.
const HANDOVER: usize = 1024;

/// All forwarding threads.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    certificates: Arc<Certificates>,
}

struct Worker {
    connections: mpsc::Sender<Connection>,
    open: Arc<AtomicUsize>,
}

impl Workers {
    pub(crate) fn start(
        threads: usize,
        tables: &Arc<Tables>,
        certificates: &Arc<Certificates>,
        common: &Common,
        scope: &Scope,
    ) -> io::Result<Self> {
        let start = |thread| {
            let forwarder = Forwarder::new(Arc::clone(tables), thread, common.clone());
            Worker::start(thread, forwarder, Arc::clone(tables), scope)
        };
        let workers = (0..threads).map(start).collect::<io::Result<_>>()?;
        Ok(Self { workers, certificates: Arc::clone(certificates) })
    }
}

/// How many threads that is: 0 stands for one per core.
pub(crate) fn threads(configured: usize) -> usize {
    match configured {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

impl Accept for Workers {
    fn accept(&self, connection: Connection) {
        let tls = self.certificates.of(connection.listener);
        let connection = connection.with_tls(tls).with_tunnels();
        let least = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed));
        if let Some(worker) = least {
            worker.open.fetch_add(1, Ordering::Relaxed);
            if worker.connections.try_send(connection).is_err() {
                worker.open.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!("a connection was dropped: its thread is overwhelmed");
            }
        }
    }
}

/// One connection less on a thread, when this is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    fn start(index: usize, forwarder: Forwarder, tables: Arc<Tables>, scope: &Scope) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connections, received) = mpsc::channel(HANDOVER);
        let open = Arc::new(AtomicUsize::new(0));
        let (counted, scope) = (Arc::clone(&open), scope.clone());
        thread::Builder::new().name(format!("forward-{index}")).spawn(move || {
            runtime.block_on(serve(received, forwarder, tables, counted, scope));
        })?;
        Ok(Self { connections, open })
    }
}

/// Serves until everything stops: connections drain on this thread, so it stays until then.
async fn serve(
    mut received: mpsc::Receiver<Connection>,
    forwarder: Forwarder,
    tables: Arc<Tables>,
    open: Arc<AtomicUsize>,
    scope: Scope,
) {
    let (sweeper, stopping) = (forwarder.clone(), scope.stopping.clone());
    scope.tasks.spawn(async move { stopping.run_until_cancelled(sweeper.sweep()).await });
    loop {
        let connection = tokio::select! {
            connection = received.recv() => connection,
            () = scope.stopping.cancelled() => return,
        };
        let Some(connection) = connection else {
            scope.stopping.cancelled().await;
            return;
        };
        // The stream was registered with the accepting runtime; it belongs to this one now.
        let (peer, moved) = (connection.peer, connection.moved());
        let counted = (Counted(Arc::clone(&open)), forwarder.count_connection());
        let (forwarder, scope) = (forwarder.clone(), scope.clone());
        let (work, table) = (scope.work.clone(), tables.load());
        work.spawn(async move {
            match moved {
                Ok(connection) => {
                    let counted = Arc::new((counted, connection.place()));
                    let scheme = if connection.is_secure() { "https" } else { "http" };
                    let caller = Caller { address: peer.ip(), scheme, _counted: counted };
                    let handler = move |request| forwarder.clone().forward(request, caller.clone());
                    let lifecycle = table.lifecycle.clone();
                    // An old table is not kept for as long as a connection lives.
                    drop(table);
                    serve_connection(connection, handler, &scope, &lifecycle).await;
                }
                Err(error) => tracing::warn!(%error, "a connection could not be handed over"),
            }
        });
    }
}
