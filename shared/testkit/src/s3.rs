//! A private S3: s3s-fs on a folder, in a process of its own so that it can be killed.
mod executable;
mod serve;

use std::{fs, ops::Deref, time::Duration};

pub use serve::serve;

use crate::{
    Error, Result, Server,
    process::{Account, Launch},
    server::{Place, Plan, Probe},
    watchdog::Life,
};

const START_WITHIN: Duration = Duration::from_secs(20);

/// A private S3 store; [`Server`] has what can be done to it. Its URL is the endpoint, to be used path-style.
#[derive(Debug)]
pub struct S3(Server);

impl S3 {
    /// The access key id it accepts.
    pub const ACCESS_KEY_ID: &'static str = "weft-testkit";
    /// The secret that goes with it.
    pub const SECRET_ACCESS_KEY: &'static str = "weft-testkit-secret";
    /// The region to sign requests for.
    pub const REGION: &'static str = "us-east-1";

    /// Starts one of the test's own.
    ///
    /// # Errors
    /// When its program is not built and cannot be, or it does not start.
    pub async fn start() -> Result<Self> {
        executable::ensure().await?;
        Server::start(&Life::Ours, plan).await.map(Self)
    }

    /// Creates an empty bucket and returns its name.
    ///
    /// # Errors
    /// When its folder cannot be created.
    pub async fn bucket(&self) -> Result<String> {
        let name = format!("weft-{:016x}", fastrand::u64(..));
        self.named_bucket(&name)?;
        Ok(name)
    }

    pub(crate) fn named_bucket(&self, name: &str) -> Result<()> {
        let folder = self.place().folder.join(name);
        fs::create_dir(&folder).map_err(Error::io("create", folder))
    }
}

impl Deref for S3 {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

fn plan(place: &Place) -> Result<Plan> {
    let port = place.ports[0].to_string();
    let root = place.folder.as_os_str();
    let arguments = ["s3".as_ref(), "--root".as_ref(), root, "--port".as_ref(), port.as_ref()];
    Ok(Plan {
        name: "S3",
        files: Vec::new(),
        setup: Vec::new(),
        launches: vec![Launch::new(executable::find()?, Account::Own, arguments)],
        probe: Probe { send: b"HEAD / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(), expect: b"HTTP/1.1 " },
        within: START_WITHIN,
        url: format!("http://127.0.0.1:{port}"),
    })
}
