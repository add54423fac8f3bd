//! The address of the mesh, and on whose behalf it is called.

use std::{fmt, time::Duration};

use http::{HeaderValue, Uri};
use tokio::net::TcpStream;
use weft_mesh::context;

use crate::{
    Assets, Chats, Documents, Error, Jobs, Messages, Notifications, Result, Search, Transport, Users,
    transport::Background,
};

/// How the mesh is called.
#[derive(Clone)]
pub struct Options {
    /// The longest a unary call may take, retries included. Default 30 s: longer than any call of the mesh should take,
    /// shorter than a person waits.
    pub timeout: Duration,
    /// The longest that a connection may take to be made. Default 3 s.
    pub connect_timeout: Duration,
    /// An API key or a token, where the gateway asks who calls. Default: none.
    pub token: Option<String>,
}

/// Without the token.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timeout, connect_timeout, token } = self;
        let mut shown = f.debug_struct("Options");
        shown.field("timeout", timeout).field("connect_timeout", connect_timeout);
        shown.field("token", &token.as_ref().map(|_| "***")).finish()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), connect_timeout: Duration::from_secs(3), token: None }
    }
}

/// The mesh, as one user calls it. Clones share their connections, which close with the last of them.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// Calls the mesh at an address such as `http://127.0.0.1:7080`, on behalf of a user. Where the gateway asks who
    /// calls, [`Options::token`] says it; the user may be empty then, or, for a service or an operator, anybody.
    ///
    /// # Errors
    /// [`Error::Address`] and [`Error::User`] for what can never work, [`Error::Unreachable`] when nobody listens there
    /// now. Later the mesh may come and go: the client connects again by itself.
    pub async fn connect(address: &str, user: &str) -> Result<Self> {
        Self::connect_with(address, user, Options::default()).await
    }

    /// The same, with options.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with(address: &str, user: &str, options: Options) -> Result<Self> {
        Ok(Self { transport: open(address, user, options).await? })
    }

    /// What carries the calls: for the generated client of any service, `ModelServiceClient::new(client.transport())`.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport.clone()
    }

    /// The user's documents.
    #[must_use]
    pub fn documents(&self) -> Documents {
        Documents::new(self.transport())
    }

    /// Passages of the user's documents.
    #[must_use]
    pub fn search(&self) -> Search {
        Search::new(self.transport())
    }

    /// The user's chats.
    #[must_use]
    pub fn chats(&self) -> Chats {
        Chats::new(self.transport())
    }

    /// The messages of the user's chats.
    #[must_use]
    pub fn messages(&self) -> Messages {
        Messages::new(self.transport())
    }

    /// The user's jobs.
    #[must_use]
    pub fn jobs(&self) -> Jobs {
        Jobs::new(self.transport())
    }

    /// The user's assets.
    #[must_use]
    pub fn assets(&self) -> Assets {
        Assets::new(self.transport())
    }

    /// What the user has been told.
    #[must_use]
    pub fn notifications(&self) -> Notifications {
        Notifications::new(self.transport())
    }

    /// All users; for operators.
    #[must_use]
    pub fn users(&self) -> Users {
        Users::new(self.transport())
    }
}

/// Checks an address and a user, sees that somebody listens, and makes the transport.
pub(crate) async fn open(address: &str, user: &str, options: Options) -> Result<Transport> {
    // Without a name, it is the one that the token has.
    let named_by_token = user.is_empty() && options.token.is_some();
    if !named_by_token && !context::is_user_name(user) {
        return Err(Error::User { user: user.to_owned() });
    }
    let authority = authority(address)?;
    let unreachable = |source| Error::Unreachable { address: address.to_owned(), source };
    let dialled = tokio::time::timeout(options.connect_timeout, TcpStream::connect(&authority)).await;
    dialled.map_err(|elapsed| unreachable(elapsed.into()))?.map_err(unreachable)?;
    let authorization = options.token.as_deref().map(bearer).transpose()?;
    Ok(Transport::new(Background::start(&authority, &options), user, authorization))
}

fn bearer(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Error::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// `host:port` of an address.
fn authority(address: &str) -> Result<String> {
    let refuse = |problem: &str| Error::Address { address: address.to_owned(), problem: problem.to_owned() };
    let uri: Uri = address.parse().map_err(|error: http::uri::InvalidUri| refuse(&error.to_string()))?;
    match uri.scheme_str() {
        Some("http") | None => {}
        Some(_) => return Err(refuse("it must begin with http://")),
    }
    let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(refuse("it must end after the port"));
    }
    let port = authority.port_u16().unwrap_or(80);
    Ok(format!("{}:{port}", authority.host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_or_refused_with_the_reason() {
        assert_eq!(authority("http://127.0.0.1:7080").unwrap(), "127.0.0.1:7080");
        assert_eq!(authority("http://[::1]:7080/").unwrap(), "[::1]:7080");
        assert_eq!(authority("localhost:7080").unwrap(), "localhost:7080");
        assert_eq!(authority("http://weft").unwrap(), "weft:80");
        for (wrong, why) in [
            ("https://weft:443", "begin with http://"),
            ("http://weft/api", "end after the port"),
            ("http://we ft", "invalid uri"),
            ("", "empty"),
            ("/tmp/socket", "names no host"),
        ] {
            let refused = authority(wrong).unwrap_err().to_string();
            assert!(refused.contains(why), "{wrong}: {refused}");
        }
    }

    #[tokio::test]
    async fn an_address_without_a_listener_is_unreachable_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Client::connect(&address, "ada").await.unwrap_err();
        assert_eq!(error.to_string(), format!("nothing answers at {address}"));
        assert!(Client::connect(&address, "two words").await.unwrap_err().to_string().contains("user name"));
    }
}
