//! `kill -9` in the middle of uploads: each is there whole or not at all.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use weft_mesh::Channel;
use weft_proto::assets::v1::{self as pb, asset_service_client::AssetServiceClient};
use weft_testkit::{eventually, hermetic};

use crate::rig::{Rig, config, parts, public};

struct Process {
    child: Child,
    port: u16,
}

impl Process {
    fn start(data_dir: &std::path::Path) -> Self {
        let port = weft_testkit::free_port().unwrap();
        let child = hermetic(env!("CARGO_BIN_EXE_weft-assets"))
            .env("WEFT_ASSETS__ADDRESS", format!("127.0.0.1:{port}"))
            .env("WEFT_ASSETS__ADMIN__ADDRESS", "127.0.0.1:0")
            .env("WEFT_ASSETS__DATA_DIR", data_dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    fn client(&self) -> AssetServiceClient<Channel> {
        AssetServiceClient::new(Channel::direct(format!("127.0.0.1:{}", self.port)))
    }

    async fn ready(&self) {
        eventually(Duration::from_secs(30), || async {
            self.client().list_assets(pb::ListAssetsRequest::default()).await.is_ok()
        })
        .await;
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn style_sheet(i: usize) -> Vec<u8> {
    (0..200)
        .map(|line| format!(".c{i}-{line} {{ margin: 0px; color: #ff0000; }}\n"))
        .collect::<String>()
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_killed_at_any_moment_are_whole_or_absent() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let mut process = Process::start(directory.path());
        process.ready().await;
        let mut uploads = tokio::task::JoinSet::new();
        for i in 0..12 {
            let (mut client, data) = (process.client(), style_sheet(round * 100 + i));
            uploads.spawn(async move {
                let put = client.put_asset(futures::stream::iter(parts(public("a.css"), &data))).await;
                put.map(|_| data)
            });
        }
        // Killed once some are done and others are not: a different number each time.
        for _ in 0..=2 * round {
            if let Some(Ok(Ok(data))) = uploads.join_next().await {
                acknowledged.push(data);
            }
        }
        process.kill();
        while let Some(done) = uploads.join_next().await {
            acknowledged.extend(done.unwrap().ok());
        }
    }
    let rig = Rig::on(config(directory.path().to_owned()), tempfile::tempdir().unwrap()).await;
    for data in &acknowledged {
        let id = blake3::hash(data).to_hex();
        assert_eq!(&rig.download(&id).await.unwrap().1, data, "an acknowledged upload is damaged");
    }
    let listed = rig.list(1000, "").await.unwrap().assets;
    assert!(listed.len() >= acknowledged.len() && !acknowledged.is_empty());
    for asset in listed {
        let (_, bytes) = rig.download(&asset.id).await.unwrap();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), asset.id, "half an upload shows");
        let url = rig.urls(&asset.id).await.unwrap().url;
        assert_eq!(rig.get(&url).send().await.unwrap().status(), 200);
    }
    assert!(!rig.get("/files/local/a.css").send().await.unwrap().bytes().await.unwrap().is_empty());
}
