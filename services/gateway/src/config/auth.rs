//! Who may call what.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use weft_runtime::config::duration;

/// Who is believed to be whom, and what each may call. Empty, nobody is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// A file of API keys, as `weft key` writes it; looked at every `reload.interval`. Default: none.
    pub api_keys: Option<PathBuf>,
    /// Whose tokens (JWT) are believed. Default: nobody's.
    pub issuers: Vec<Issuer>,
    /// Who the holders of client certificates are. Default: nobody.
    pub certificates: Vec<CertificateHolder>,
    /// Who may call what, beside `routes[].roles`; once there is any of both, what none allows is denied. Default: none,
    /// whoever is authenticated may call everything that services let a user do.
    pub rules: Vec<Permission>,
}

impl Auth {
    /// Whether callers are asked who they are.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        self.api_keys.is_some() || !self.issuers.is_empty() || !self.certificates.is_empty()
    }
}

/// Somebody whose tokens are believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Issuer {
    /// What its tokens have as `iss`.
    pub issuer: String,
    /// What they must have one of as `aud`.
    pub audiences: Vec<String>,
    /// Where its keys are (JWKS, RFC 7517): an `https://` or `http://` URL.
    pub jwks_url: Option<String>,
    /// The same as a file.
    pub jwks_file: Option<PathBuf>,
    /// How its tokens may be signed. Default `["RS256", "ES256", "EdDSA"]`; with a shared secret (`HS256`) only if this
    /// says so.
    pub algorithms: Vec<String>,
    /// How much its clock may differ. Default 30 s.
    #[serde(with = "duration")]
    pub leeway: Duration,
    /// How often its keys are fetched again, and how often at the most for a token that names an unknown key: a tenth of
    /// it. Default 5 min.
    #[serde(with = "duration")]
    pub refresh: Duration,
    /// The claim with the user's name: 1 to 128 bytes of printable ASCII without spaces. Default `sub`.
    pub user_claim: String,
    /// The claim with roles: a list, or a text with spaces between them; `.` leads into objects. Default `roles`.
    pub roles_claim: String,
    /// What a value of that claim stands for, such as `{ "weft-admins" = "operator" }`. Every user has the role `user`;
    /// other values count for nothing. Default: none.
    pub roles: BTreeMap<String, String>,
}

impl Default for Issuer {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            jwks_url: None,
            jwks_file: None,
            algorithms: ["RS256", "ES256", "EdDSA"].map(str::to_owned).into(),
            leeway: Duration::from_secs(30),
            refresh: Duration::from_secs(300),
            user_claim: "sub".to_owned(),
            roles_claim: "roles".to_owned(),
            roles: BTreeMap::new(),
        }
    }
}

/// Somebody who shows a client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateHolder {
    /// A URI (SPIFFE) or DNS name among the certificate's alternative names.
    pub name: String,
    /// Who that is.
    pub user: String,
    /// What roles that is. Default `["user"]`.
    pub roles: Vec<String>,
}

impl Default for CertificateHolder {
    fn default() -> Self {
        Self { name: String::new(), user: String::new(), roles: vec!["user".to_owned()] }
    }
}

/// Who may make some calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permission {
    /// `package.Service/Method`, or a path that begins with `/`; `*` at the end stands for any rest. The exact, then the
    /// longest that matches counts, before the route's own roles.
    pub calls: String,
    /// Any of these. `anonymous` stands for everybody, whoever that is.
    pub roles: Vec<String>,
}
