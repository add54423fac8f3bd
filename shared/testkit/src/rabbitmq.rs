//! A private RabbitMQ.
use std::{fs, ops::Deref, path::Path, time::Duration};

use tokio::sync::OnceCell;

use crate::{
    Error, Result, Server,
    process::{Account, Launch},
    server::{Place, Plan, Probe},
    shared,
    watchdog::Life,
};

/// About 7 s on an idle machine.
const START_WITHIN: Duration = Duration::from_secs(180);
/// The package's own script; `/usr/sbin/rabbitmq-server` is a wrapper that insists on the system's configuration.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Succeeds if the expression `$4` does.
const EVALUATE: &str = r#"
answer=$(printf '%s\n' "$4" | erl_call -sname "$1" -c "$2" -h "$3" -e) || exit 1
echo "$answer"; [ "$answer" = "{ok, ok}" ]
"#;

static SHARED: OnceCell<RabbitMq> = OnceCell::const_new();

/// A private RabbitMQ; [`Server`] has what can be done to it.
///
/// Its URL names the user `guest` and the default virtual host. A restart keeps durable queues and persistent messages.
#[derive(Debug)]
pub struct RabbitMq(Server);

impl RabbitMq {
    /// Starts one of the test's own, which takes several seconds.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start() -> Result<Self> {
        Server::start(&Life::Ours, plan).await.map(Self)
    }

    /// The one that all tests of this run share: take a [`vhost`](Self::vhost) of your own in it.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn shared() -> Result<&'static Self> {
        SHARED.get_or_try_init(async || shared::server("rabbitmq", plan).await.map(Self)).await
    }

    /// Creates an empty virtual host and returns the URL to it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn vhost(&self) -> Result<String> {
        let name = format!("weft-{:016x}", fastrand::u64(..));
        let all = r#"<<".*">>"#;
        // On one line: that is what `erl_call` takes.
        let create = format!(
            "ok = rabbit_vhost:add(<<\"{name}\">>, <<\"guest\">>), \
             ok = rabbit_auth_backend_internal:set_permissions(\
             <<\"guest\">>, <<\"{name}\">>, {all}, {all}, {all}, <<\"guest\">>)."
        );
        self.evaluate(&create).await?;
        Ok(format!("amqp://guest:guest@{}/{name}", self.address()))
    }

    /// Evaluates Erlang in the broker, by a small C program: `rabbitmqctl` would start a whole Erlang for it.
    async fn evaluate(&self, expression: &str) -> Result<()> {
        let Place { ports: [port, _, epmd_port], folder } = self.place();
        let cookie = folder.join(".erlang.cookie");
        let cookie = fs::read_to_string(&cookie).map_err(Error::io("read", cookie))?;
        // Two callers with one name would push each other out.
        let caller = format!("weft{:016x}", fastrand::u64(..));
        let arguments = ["-c", EVALUATE, "sh", &node(*port), cookie.trim(), &caller, expression];
        let epmd = [("ERL_EPMD_PORT", epmd_port.to_string())];
        Launch::new("sh", Account::Own, arguments).with(epmd).run(folder).await.map(drop)
    }
}

impl Deref for RabbitMq {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

fn plan(place: &Place) -> Result<Plan> {
    if !Path::new(PROGRAM).exists() {
        return Err(Error::Missing {
            what: PROGRAM.into(),
            install: "apt-get install rabbitmq-server (or run tests/run.sh as root, which does)".into(),
        });
    }
    let folder = |name: &str| place.folder.join(name).into_os_string();
    let [port, dist_port, epmd_port] = place.ports;
    let epmd_port = epmd_port.to_string();
    let environment = [
        ("HOME", place.folder.clone().into_os_string()),
        ("RABBITMQ_NODENAME", node(port).into()),
        ("RABBITMQ_NODE_PORT", port.to_string().into()),
        ("RABBITMQ_DIST_PORT", dist_port.to_string().into()),
        ("RABBITMQ_MNESIA_BASE", folder("mnesia")),
        ("RABBITMQ_LOG_BASE", folder("logs")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", folder("enabled_plugins")),
        ("RABBITMQ_CONFIG_FILE", folder("rabbitmq.conf")),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".into()),
        // One scheduler thread: a test machine has few cores, and most of them build something.
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1".into()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        ("ERL_EPMD_PORT", epmd_port.clone().into()),
    ];
    // Its own port mapper in the foreground: Erlang would start a daemon that outlives everything.
    let epmd = Launch::new("epmd", Account::Unprivileged, ["-port", &epmd_port, "-address", "127.0.0.1"]);
    let server = Launch::new(PROGRAM, Account::Unprivileged, [""; 0]).with(environment);
    let conf = format!("listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.file = false\n");
    Ok(Plan {
        name: "RabbitMQ",
        files: vec![("rabbitmq.conf", conf), ("enabled_plugins", "[].\n".into())],
        setup: Vec::new(),
        launches: vec![epmd, server],
        // The protocol header; the broker answers with a method frame on channel 0.
        probe: Probe { send: b"AMQP\0\0\x09\x01".to_vec(), expect: b"\x01\0\0" },
        within: START_WITHIN,
        url: format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
    })
}

fn node(port: u16) -> String {
    format!("weft-{port}@localhost")
}
