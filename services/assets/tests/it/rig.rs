//! A running service with its clients.

use std::path::PathBuf;

use bytes::Bytes;
use tempfile::TempDir;
use tonic::{Code, Status};
use weft_assets::{Assets, Config};
use weft_mesh::{Channel, context, context::Context};
use weft_proto::assets::v1::{
    self as pb, asset_service_client::AssetServiceClient, get_asset_response, put_asset_request::Part,
};
use weft_runtime::{
    Listeners, Running,
    config::{Admin, Telemetry},
};

/// A service, its data directory and whatever its backend needs.
pub(crate) struct Rig {
    pub(crate) client: AssetServiceClient<Channel>,
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    config: Config,
    running: Running,
    pub(crate) directory: TempDir,
    #[cfg(feature = "real-backends")]
    pub(crate) s3: Option<weft_testkit::S3>,
    #[cfg(feature = "real-backends")]
    pub(crate) bucket: String,
}

/// Runs a test on every backend there is.
#[macro_export]
macro_rules! on_every_backend {
    ($name:ident) => {
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn filesystem() {
                Box::pin(super::$name($crate::rig::Rig::filesystem().await)).await;
            }

            #[cfg(feature = "real-backends")]
            #[tokio::test(flavor = "multi_thread")]
            async fn s3() {
                Box::pin(super::$name($crate::rig::Rig::s3().await)).await;
            }
        }
    };
}

pub(crate) fn config(data_dir: PathBuf) -> Config {
    Config { address: "127.0.0.1:0".into(), admin: Admin::at("127.0.0.1:0"), data_dir, ..Config::default() }
}

#[cfg(feature = "real-backends")]
pub(crate) async fn s3_config(config: &mut Config, s3: &weft_testkit::S3) {
    use weft_testkit::S3;

    let to = &mut config.storage.s3;
    to.endpoint = s3.url().to_owned();
    to.bucket = s3.bucket().await.unwrap();
    to.region = S3::REGION.into();
    to.access_key_id = S3::ACCESS_KEY_ID.into();
    to.secret_access_key = S3::SECRET_ACCESS_KEY.into();
}

pub(crate) async fn start(config: Config) -> anyhow::Result<Running> {
    let listeners = Listeners::bind(&config).await?;
    weft_runtime::start::<Assets>(config, listeners).await
}

impl Rig {
    pub(crate) async fn filesystem() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path().to_owned());
        change(&mut config);
        Self::on(config, directory).await
    }

    #[cfg(feature = "real-backends")]
    pub(crate) async fn s3() -> Self {
        Self::s3_with(|_| {}).await
    }

    #[cfg(feature = "real-backends")]
    pub(crate) async fn s3_with(change: impl FnOnce(&mut Config)) -> Self {
        let s3 = weft_testkit::S3::start().await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path().to_owned());
        s3_config(&mut config, &s3).await;
        change(&mut config);
        let mut rig = Self::on(config, directory).await;
        rig.s3 = Some(s3);
        rig
    }

    /// The service's bucket, to look into.
    #[cfg(feature = "real-backends")]
    pub(crate) fn bucket(&self) -> weft_assets::storage::S3 {
        let s3 = &self.config.storage.s3;
        let settings = weft_assets::storage::S3Settings {
            bucket: s3.bucket.clone(),
            endpoint: s3.endpoint.clone(),
            region: s3.region.clone(),
            access_key_id: s3.access_key_id.clone(),
            secret_access_key: s3.secret_access_key.expose().to_owned(),
            prefix: s3.prefix.clone(),
            timeout: std::time::Duration::from_secs(5),
        };
        weft_assets::storage::S3::open(&settings).unwrap()
    }

    pub(crate) async fn on(config: Config, directory: TempDir) -> Self {
        #[cfg(feature = "real-backends")]
        let bucket = config.storage.s3.bucket.clone();
        let quiet = Telemetry { log: "off".into(), ..Telemetry::default() };
        // Once for the process: it leaves what stands.
        let _ = weft_runtime::telemetry::init("weft-assets", &quiet);
        let running = start(config.clone()).await.unwrap();
        running.wait_ready().await;
        Self {
            config,
            client: AssetServiceClient::new(Channel::direct(running.address)),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            base: format!("http://{}", running.address),
            running,
            directory,
            #[cfg(feature = "real-backends")]
            s3: None,
            #[cfg(feature = "real-backends")]
            bucket,
        }
    }

    /// Stops the service and starts it anew on what it has stored.
    pub(crate) async fn restart(self) -> Self {
        self.running.stop().await;
        #[allow(unused_mut)] // without a backend there is none to take along
        let mut rig = Self::on(self.config, self.directory).await;
        #[cfg(feature = "real-backends")]
        {
            rig.s3 = self.s3;
        }
        rig
    }

    /// The sum of a metric over all labels of which `label` is one.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        let metrics = format!("http://{}/metrics", self.running.admin);
        let text = self.http.get(metrics).send().await.unwrap().text().await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Requests being served.
    pub(crate) async fn in_flight(&self) -> f64 {
        // The one that asks is among them.
        self.metric("weft_server_in_flight", "").await - 1.0
    }

    /// Waits until the data directory has so many files in a folder.
    pub(crate) async fn settled(&self, folder: &str, files: usize) {
        let there = || self.files().iter().filter(|file| file.contains(folder)).count();
        weft_testkit::eventually(std::time::Duration::from_secs(20), || async { there() == files }).await;
    }

    pub(crate) fn ready(&self) -> bool {
        self.running.ready().is_ok()
    }

    pub(crate) async fn put(
        &self,
        header: pb::AssetHeader,
        data: &[u8],
    ) -> Result<pb::PutAssetResponse, Status> {
        let parts = parts(header, data);
        Ok(self.client.clone().put_asset(futures::stream::iter(parts)).await?.into_inner())
    }

    /// Stores bytes that must be accepted.
    pub(crate) async fn public(&self, name: &str, data: &[u8]) -> pb::Asset {
        self.put(public(name), data).await.unwrap().asset.unwrap()
    }

    pub(crate) async fn private(&self, name: &str, data: &[u8]) -> pb::Asset {
        let header = pb::AssetHeader { name: name.into(), ..Default::default() };
        self.put(header, data).await.unwrap().asset.unwrap()
    }

    pub(crate) async fn download(&self, id: &str) -> Result<(pb::Asset, Vec<u8>), Status> {
        let request = pb::GetAssetRequest { id: id.into() };
        let mut stream = self.client.clone().get_asset(request).await?.into_inner();
        let (mut asset, mut bytes) = (None, Vec::new());
        while let Some(message) = stream.message().await? {
            match message.part {
                Some(get_asset_response::Part::Asset(first)) => asset = Some(first),
                Some(get_asset_response::Part::Data(data)) => {
                    assert!(data.len() <= 256 * 1024 && asset.is_some());
                    bytes.extend_from_slice(&data);
                }
                None => panic!("a message without a part"),
            }
        }
        Ok((asset.unwrap(), bytes))
    }

    pub(crate) async fn stat(&self, id: &str) -> Result<pb::Asset, Status> {
        let request = pb::StatAssetRequest { id: id.into() };
        Ok(self.client.clone().stat_asset(request).await?.into_inner().asset.unwrap())
    }

    pub(crate) async fn delete(&self, id: &str) -> Result<(), Status> {
        self.client.clone().delete_asset(pb::DeleteAssetRequest { id: id.into() }).await.map(drop)
    }

    pub(crate) async fn urls(&self, id: &str) -> Result<pb::GetAssetUrlResponse, Status> {
        Ok(self.client.clone().get_asset_url(pb::GetAssetUrlRequest { id: id.into() }).await?.into_inner())
    }

    pub(crate) async fn list(
        &self,
        page_size: i32,
        page_token: &str,
    ) -> Result<pb::ListAssetsResponse, Status> {
        let request = pb::ListAssetsRequest { page_size, page_token: page_token.into() };
        Ok(self.client.clone().list_assets(request).await?.into_inner())
    }

    pub(crate) async fn stats(&self) -> pb::GetStatsResponse {
        self.client.clone().get_stats(pb::GetStatsRequest {}).await.unwrap().into_inner()
    }

    pub(crate) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("{}{path}", self.base))
    }

    /// Names of all files below the data directory.
    pub(crate) fn files(&self) -> Vec<String> {
        fn walk(folder: &std::path::Path, names: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    walk(&entry.path(), names);
                } else if entry.file_name() != "lock" {
                    names.push(entry.path().display().to_string());
                }
            }
        }
        let mut names = Vec::new();
        walk(self.directory.path(), &mut names);
        names
    }
}

pub(crate) fn public(name: &str) -> pb::AssetHeader {
    pb::AssetHeader { name: name.into(), visibility: pb::Visibility::Public.into(), ..Default::default() }
}

pub(crate) fn parts(header: pb::AssetHeader, data: &[u8]) -> Vec<pb::PutAssetRequest> {
    let chunks = data.chunks(100_000).map(|chunk| Part::Data(Bytes::copy_from_slice(chunk)));
    std::iter::once(Part::Header(header))
        .chain(chunks)
        .map(|part| pb::PutAssetRequest { part: Some(part) })
        .collect()
}

/// Does something in the name of a user.
pub(crate) async fn acting_for<T>(user: &str, work: impl Future<Output = T>) -> T {
    context::scope(Context::acting_for(user), work).await
}

pub(crate) fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../tests/samples/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(text), "{text:?} is not in {:?}", status.message());
}
