//! What every client command starts from: the mesh's address, the user, the time to wait, the terminal.

use std::time::Duration;

use weft_client::{Admin, Client, Options};

use crate::{cli::MeshOptions, terminal::Paint};

/// How long a call may take unless `--timeout` says otherwise.
const CALL: Duration = Duration::from_secs(30);

/// One run of a client command.
#[derive(Debug)]
pub(crate) struct Session {
    mesh: MeshOptions,
    /// For stdout.
    pub(crate) out: Paint,
    /// For stderr.
    pub(crate) err: Paint,
}

impl Session {
    pub(crate) fn new(mesh: MeshOptions) -> Self {
        let colour = !mesh.no_color && mesh.no_color_env.is_empty();
        Self { out: Paint::stdout(colour), err: Paint::stderr(colour), mesh }
    }

    /// A client of the mesh that is known to be there.
    pub(crate) async fn client(&self) -> weft_client::Result<Client> {
        Client::connect_with(&self.mesh.gateway, &self.mesh.user, self.options()).await
    }

    /// A client of the gateway's admin port.
    pub(crate) async fn admin(&self) -> weft_client::Result<Admin> {
        Admin::connect_with(&self.mesh.admin, &self.mesh.user, self.options()).await
    }

    /// The gateway's address, without a slash at its end.
    pub(crate) fn gateway(&self) -> &str {
        self.mesh.gateway.trim_end_matches('/')
    }

    /// `--timeout`, or the command's own default.
    pub(crate) fn timeout(&self, default: Duration) -> Duration {
        self.mesh.timeout.unwrap_or(default)
    }

    fn options(&self) -> Options {
        Options { timeout: self.timeout(CALL), ..Options::default() }
    }
}
