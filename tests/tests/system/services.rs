//! Services as processes of their own, and the gateway before them.

use std::{fs, net::SocketAddr, path::Path, process::Stdio};

use tokio::process::Child;
use weft_client::{Admin, Client};
use weft_proto::gateway::v1::{Backend, Health};
use weft_testkit::{eventually_ok, free_port};

use crate::process::{LIMIT, weft};

/// A replica of a service.
pub(crate) struct Replica {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

/// The gateway, as a user and as an operator see it.
pub(crate) struct Gateway {
    pub(crate) client: Client,
    pub(crate) admin: Admin,
    pub(crate) admin_address: String,
    _child: Child,
}

impl Replica {
    /// Starts one on a free port, with more configuration. Those of one name differ by their `index`.
    pub(crate) fn start(name: &str, folder: &Path, index: usize, more: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let config = folder.join(format!("{name}-{index}.toml"));
        let text = format!("address = \"{address}\"\nadmin = {{ address = \"127.0.0.1:0\" }}\n{more}");
        fs::write(&config, text).unwrap();
        Self { child: serve(name, &config), address }
    }
}

impl Gateway {
    /// Starts one on free ports before these pools, and waits until it answers.
    pub(crate) async fn start(folder: &Path, pools: &str) -> Self {
        let [address, admin] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port().unwrap())));
        let config = folder.join("gateway.toml");
        let text = format!(
            "listeners = [{{ address = \"{address}\" }}]\nadmin = {{ address = \"{admin}\" }}\n{pools}"
        );
        fs::write(&config, text).unwrap();
        let _child = serve("gateway", &config);
        let (address, admin_address) = (format!("http://{address}"), format!("http://{admin}"));
        let client = eventually_ok(LIMIT, || Client::connect(&address, "ada")).await;
        let admin = eventually_ok(LIMIT, || Admin::connect(&admin_address, "ada")).await;
        Self { client, admin, admin_address, _child }
    }

    /// Whether every backend of every pool is.
    pub(crate) async fn is_healthy(&self) -> bool {
        let pools = self.admin.pools().await.unwrap();
        pools.iter().flat_map(|pool| &pool.backends).all(|backend| backend.health() == Health::Healthy)
    }

    /// The backends of a pool.
    pub(crate) async fn backends(&self, pool: &str) -> Vec<Backend> {
        let pools = self.admin.pools().await.unwrap();
        pools.into_iter().find(|known| known.name == pool).unwrap().backends
    }
}

/// A pool that is asked for statistics, and the route to it.
pub(crate) fn pool(name: &str, stats: &str, addresses: &[SocketAddr]) -> String {
    let backends: Vec<_> = addresses.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    format!(
        "[[pools]]\nname = \"{name}\"\nbackends = [{}]\nhealth = {{ interval = \"1s\" }}\n\
         stats_method = \"weft.{name}.v1.{stats}/GetStats\"\n\
         [[routes]]\ngrpc_service = \"weft.{name}.v1.*\"\npool = \"{name}\"\n",
        backends.join(", ")
    )
}

/// A service that another one calls, as that one's configuration names it.
pub(crate) fn peer(name: &str, addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("{name} = {{ addresses = [{}] }}\n", addresses.join(", "))
}

fn serve(name: &str, config: &Path) -> Child {
    let mut command = weft();
    command.args(["serve", name, "--config"]).arg(config);
    command.stdout(Stdio::null()).spawn().unwrap()
}
