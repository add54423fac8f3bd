//! The forwarding threads: each runs its own connections, from clients and to backends, and shares none of them.
//!
//! Accepted connections go to the thread that has the fewest, so that a few busy clients do not share a core while
//! another idles, as SO_REUSEPORT's hashing would have it.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::sync::mpsc;
use weft_mesh::upstream::Upstream;
use weft_runtime::{Accept, Connection, Scope, serve_connection};

use crate::{
    admin::Pools,
    config::Config,
    forward::{Common, Forwarder, Lane, Target},
    gate::Gate,
    route::{Routes, Rule},
};

/// Connections on their way to a thread; it takes them at once unless it is overwhelmed.
const HANDOVER: usize = 1024;

/// All forwarding threads.
pub(crate) struct Workers {
    workers: Vec<Worker>,
}

struct Worker {
    connections: mpsc::Sender<Connection>,
    open: Arc<AtomicUsize>,
}

impl Workers {
    pub(crate) fn start(
        config: &Config,
        pools: &Pools,
        routes: &Arc<Routes>,
        common: &Common,
        scope: &Scope,
    ) -> io::Result<Self> {
        let count = match config.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let gates: Vec<Gate> = routes.rules().iter().map(|_| Gate::default()).collect();
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let targets = pools.iter().map(|entry| {
                let upstream = Upstream::new(Arc::clone(&entry.pool), scope.tasks.clone());
                (entry.config.name.clone(), Arc::new(Target::new(upstream, &entry.config)))
            });
            let targets: HashMap<_, _> = targets.collect();
            let lane = |(rule, gate): (&Rule, &Gate)| {
                let target = Arc::clone(targets.get(&rule.pool)?);
                Some(Arc::new(Lane { rule: rule.clone(), target, gate: gate.clone() }))
            };
            // Validation has seen to it that every route's pool is there.
            let lanes: Vec<_> = routes.rules().iter().zip(&gates).filter_map(lane).collect();
            let forwarder = Forwarder::new(Arc::clone(routes), lanes, common.clone());
            workers.push(Worker::start(index, forwarder, scope, config.lifecycle.max_concurrent_streams)?);
        }
        Ok(Self { workers })
    }
}

impl Accept for Workers {
    fn accept(&self, connection: Connection) {
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

impl Worker {
    fn start(index: usize, forwarder: Forwarder, scope: &Scope, streams: u32) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connections, received) = mpsc::channel(HANDOVER);
        let open = Arc::new(AtomicUsize::new(0));
        let (counted, scope) = (Arc::clone(&open), scope.clone());
        thread::Builder::new().name(format!("forward-{index}")).spawn(move || {
            runtime.block_on(serve(received, forwarder, counted, scope, streams));
        })?;
        Ok(Self { connections, open })
    }
}

/// Serves until everything stops: connections drain on this thread, so it stays until then.
async fn serve(
    mut received: mpsc::Receiver<Connection>,
    forwarder: Forwarder,
    open: Arc<AtomicUsize>,
    scope: Scope,
    streams: u32,
) {
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
        let Connection { stream, peer, permit } = connection;
        let moved = stream.into_std().and_then(tokio::net::TcpStream::from_std);
        let (forwarder, open, scope) = (forwarder.clone(), Arc::clone(&open), scope.clone());
        let work = scope.work.clone();
        work.spawn(async move {
            match moved {
                Ok(stream) => {
                    let counted = forwarder.count_connection();
                    let handler = move |request| forwarder.clone().forward(request, peer.ip());
                    serve_connection(Connection { stream, peer, permit }, handler, &scope, streams).await;
                    drop(counted);
                }
                Err(error) => tracing::warn!(%error, "a connection could not be handed over"),
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
