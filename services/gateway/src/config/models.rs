//! Which models the servers of a pool serve, and how their API is spoken to.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use weft_runtime::config::{Secret, duration};

/// Which models the servers of a pool serve: calls of routes with `openai` go there by the model that they name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Models {
    /// Names of models; `*` at the end stands for any rest. Default: none, which means those that the servers list.
    pub names: Vec<String>,
    /// Whether the servers are asked for a list of their models. Default true.
    pub discover: bool,
    /// How often. Default 60 s: models come and go by the hand of an operator.
    #[serde(with = "duration")]
    pub refresh: Duration,
    /// How long an answer may take. Default 5 s, as that of a health check.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// For how long a list counts when no newer one can be had. Default 1 h: a server that restarts keeps its models.
    #[serde(with = "duration")]
    pub keep: Duration,
    /// Where each server says, in Prometheus' text format, how many requests it has: `/metrics` of vLLM, SGLang, llama.cpp
    /// and TGI. They count as calls in flight, whoever sent them. Default: none, only what is sent from here counts.
    pub load_path: Option<String>,
    /// How often that is looked at. Default 1 s: what is said counts less by the second and nothing after ten.
    #[serde(with = "duration")]
    pub load_interval: Duration,
    /// Where the API begins at the servers, in place of the route's `path_prefix`. Default `/v1/`.
    pub base_path: String,
    /// What the servers are asked for as their host. Default: what the client asks for, or the route's `rewrite.host`.
    pub host: Option<String>,
    /// What the servers are sent as a bearer token, in place of the client's `Authorization`. Default: none, that of the
    /// client is passed on.
    pub api_key: Secret,
    /// A file that holds it, read again every `refresh`. Default: none.
    pub api_key_file: Option<PathBuf>,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            discover: true,
            refresh: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            keep: Duration::from_secs(3600),
            load_path: None,
            load_interval: Duration::from_secs(1),
            base_path: "/v1/".to_owned(),
            host: None,
            api_key: Secret::default(),
            api_key_file: None,
        }
    }
}
