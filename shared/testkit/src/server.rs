//! A private server: started, killed, frozen and brought back.
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Child,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    Error, Result, environment, ledger, port,
    process::{self, Launch},
    watchdog::{Life, Watchdog},
};

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
const LOG_LINES: usize = 20;
const ATTEMPTS: u32 = 3;

/// One running server process with its port and data. The four kinds of server all are one of these.
#[derive(Debug)]
pub struct Server {
    plan: Plan,
    place: Place,
    /// `None` for a server that another process started and this one only uses.
    own: Option<Mutex<Own>>,
}

/// How a kind of server is started and recognised as ready.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// Written into the empty folder before the first start.
    pub(crate) files: Vec<(&'static str, String)>,
    /// Run to their end before the first start.
    pub(crate) setup: Vec<Launch>,
    /// The last one is the server, those before it are its companions.
    pub(crate) launches: Vec<Launch>,
    pub(crate) probe: Probe,
    /// Until it answers.
    pub(crate) within: Duration,
    pub(crate) url: String,
}

/// What to send to a fresh connection, and how the answer of a server that is ready begins.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) send: Vec<u8>,
    pub(crate) expect: &'static [u8],
}

/// Where a server is started: what its plan is made from.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The first is the one that clients use; a server that needs more has them.
    pub(crate) ports: [u16; 3],
    pub(crate) folder: PathBuf,
}

#[derive(Debug)]
struct Own {
    children: Vec<Child>,
    watchdog: Watchdog,
}

impl Server {
    /// Starts a server on a free port with an empty folder, by the plan made for that place.
    pub(crate) async fn start(life: &Life, plan: fn(&Place) -> Result<Plan>) -> Result<Self> {
        let mut last = None;
        // Another process may take the port between our look and the server's bind.
        for _ in 0..ATTEMPTS {
            match Self::attempt(life, plan).await {
                Err(error @ Error::Ended { .. }) => last = Some(error),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| Error::Port(io::ErrorKind::AddrInUse.into())))
    }

    async fn attempt(life: &Life, plan: fn(&Place) -> Result<Plan>) -> Result<Self> {
        let place = Place { ports: free_ports().map_err(Error::Port)?, folder: private_folder()? };
        let watchdog = Watchdog::start(life, &place.folder).map_err(Error::io("start", "sh"))?;
        let own = Mutex::new(Own { children: Vec::new(), watchdog });
        let server = Self { plan: plan(&place)?, place, own: Some(own) };
        for (name, text) in &server.plan.files {
            let file = server.place.folder.join(name);
            fs::write(&file, text).map_err(Error::io("write", file))?;
        }
        for setup in &server.plan.setup {
            setup.run(&server.place.folder).await?;
        }
        server.launch().await?;
        ledger::record(server.plan.name)?;
        Ok(server)
    }

    /// A server that another process of the same run started at that place.
    pub(crate) async fn attach(place: Place, plan: fn(&Place) -> Result<Plan>) -> Result<Self> {
        let server = Self { plan: plan(&place)?, place, own: None };
        server.wait_until_ready().await?;
        ledger::record(server.plan.name)?;
        Ok(server)
    }

    /// How clients reach it, credentials included.
    pub fn url(&self) -> &str {
        &self.plan.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.place.ports[0]).into()
    }

    /// Its process id, while it runs and this process started it.
    pub fn pid(&self) -> Option<u32> {
        self.own().ok()?.children.last().map(Child::id)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Ends it at once, with all its processes, as `kill -9` does. Its port stays free and its data stays.
    ///
    /// # Errors
    /// [`Error::Shared`] when other tests use it too.
    pub async fn stop(&self) -> Result<()> {
        let pids = self.own()?.kill().map_err(Error::io("signal", self.plan.name))?;
        while pids.iter().any(|pid| process::alive(*pid)) {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Starts it again on the same port and data, stopping it first if it runs; returns when it answers.
    ///
    /// # Errors
    /// [`Error::Shared`], or why it did not start.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.launch().await
    }

    /// Freezes all its processes: connections stay open and nothing answers.
    ///
    /// # Errors
    /// [`Error::Shared`] when other tests use it too.
    pub async fn pause(&self) -> Result<()> {
        self.signal("STOP")
    }

    /// Thaws what [`pause`](Self::pause) froze.
    ///
    /// # Errors
    /// [`Error::Shared`] when other tests use it too.
    pub async fn resume(&self) -> Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<()> {
        let own = self.own()?;
        let pids: Vec<u32> = own.children.iter().flat_map(|child| process::tree(child.id())).collect();
        process::signal(name, &pids).map_err(Error::io("signal", self.plan.name))
    }

    async fn launch(&self) -> Result<()> {
        {
            let mut own = self.own()?;
            for launch in &self.plan.launches {
                let group = own.children.first().map_or(0, Child::id);
                let child = launch.spawn(&self.place.folder, &self.log(), group)?;
                own.children.push(child);
                let group = own.children.first().map(Child::id);
                own.watchdog.guard(group).map_err(Error::io("tell", "the watchdog"))?;
            }
        }
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + self.plan.within;
        while !self.plan.probe.answered(self.address()).await {
            if let Some(status) = self.ended()? {
                return Err(Error::Ended { server: self.plan.name, status, log: self.log_tail() });
            }
            if Instant::now() > deadline {
                let (server, within) = (self.plan.name, self.plan.within);
                return Err(Error::Silent { server, within, log: self.log_tail() });
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn ended(&self) -> Result<Option<std::process::ExitStatus>> {
        if self.own.is_none() {
            return Ok(None);
        }
        let mut own = self.own()?;
        let Some(child) = own.children.last_mut() else { return Ok(None) };
        child.try_wait().map_err(Error::io("wait for", self.plan.name))
    }

    fn own(&self) -> Result<MutexGuard<'_, Own>> {
        let own = self.own.as_ref().ok_or(Error::Shared { server: self.plan.name })?;
        Ok(own.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn log(&self) -> PathBuf {
        self.place.folder.join("log")
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
    }
}

impl Own {
    /// Kills every process of the server and returns which they were.
    fn kill(&mut self) -> io::Result<Vec<u32>> {
        let roots: Vec<u32> = self.children.iter().map(Child::id).collect();
        if roots.is_empty() {
            return Ok(roots);
        }
        // Frozen first, so that none starts another while we count them.
        process::signal("STOP", &roots)?;
        let pids: Vec<u32> = roots.iter().flat_map(|root| process::tree(*root)).collect();
        process::signal("KILL", &pids)?;
        for mut child in self.children.drain(..) {
            child.wait()?;
        }
        self.watchdog.guard(None)?;
        Ok(pids)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if !self.watchdog.outlives_us() {
            // The watchdog ends what is left.
            let _ = self.kill();
        }
    }
}

impl Probe {
    async fn answered(&self, address: SocketAddr) -> bool {
        let conversation = async {
            let mut connection = TcpStream::connect(address).await?;
            connection.write_all(&self.send).await?;
            let mut answer = vec![0; self.expect.len()];
            connection.read_exact(&mut answer).await?;
            io::Result::Ok(answer == self.expect)
        };
        matches!(tokio::time::timeout(PROBE_TIMEOUT, conversation).await, Ok(Ok(true)))
    }
}

fn free_ports() -> io::Result<[u16; 3]> {
    Ok([port::free_port()?, port::free_port()?, port::free_port()?])
}

/// A folder that only the server's account can read.
fn private_folder() -> Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix("weft-testkit-").tempdir();
    let folder = folder.map_err(Error::io("create a folder in", std::env::temp_dir()))?.keep();
    environment::give_away(&folder).map_err(Error::io("give to nobody", &folder))?;
    Ok(folder)
}
