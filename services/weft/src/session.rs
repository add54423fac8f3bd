//! What every client command starts from: the mesh's address, the user, the time to wait, the terminal.

use std::{fs, time::Duration};

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
        Client::connect_with(&self.mesh.gateway, self.user(), self.options()?).await
    }

    /// A client of the gateway's admin port.
    pub(crate) async fn admin(&self) -> weft_client::Result<Admin> {
        Admin::connect_with(&self.mesh.admin, self.user(), self.options()?).await
    }

    /// The gateway's address, without a slash at its end.
    pub(crate) fn gateway(&self) -> &str {
        self.mesh.gateway.trim_end_matches('/')
    }

    /// `--timeout`, or the command's own default.
    pub(crate) fn timeout(&self, default: Duration) -> Duration {
        self.mesh.timeout.unwrap_or(default)
    }

    /// On whose behalf; empty for whoever the token names.
    fn user(&self) -> &str {
        let MeshOptions { user, token_file, token_env, .. } = &self.mesh;
        let unnamed = if token_file.is_some() || token_env.is_some() { "" } else { "local" };
        user.as_deref().unwrap_or(unnamed)
    }

    fn options(&self) -> weft_client::Result<Options> {
        let token = match &self.mesh.token_file {
            Some(path) => {
                let read = fs::read_to_string(path);
                let read = read.map_err(|source| weft_client::Error::File { path: path.clone(), source });
                Some(read?.trim().to_owned())
            }
            None => self.mesh.token_env.as_ref().map(|token| token.expose().to_owned()),
        };
        Ok(Options { timeout: self.timeout(CALL), token, ..Options::default() })
    }
}
