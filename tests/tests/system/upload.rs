//! Uploads that are cut off half-way, through the gateway: nothing is stored, nothing is left behind.

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures::{TryStreamExt, channel::mpsc};
use tonic::Code;
use weft_client::{Admin, Client, ServiceStats, Transport};
use weft_proto::assets::v1::{
    AssetHeader, PutAssetRequest, asset_service_client::AssetServiceClient, put_asset_request::Part,
};
use weft_testkit::{FaultProxy, eventually, eventually_ok};

use crate::process::{LIMIT, Mesh};

const CHUNK: usize = 128 * 1024;
/// What the header announces.
const CHUNKS: usize = 8;
/// More than the assets service holds in memory, so that a file shows that it has arrived.
const SENT: usize = 5;

/// How an upload ends too early.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The client gives up.
    Cancelled,
    /// The client's connection to the gateway breaks.
    Connection,
    /// The client says that this was all.
    Ended,
}

type Parts = mpsc::UnboundedSender<PutAssetRequest>;

fn send(parts: &Parts, part: Part) {
    parts.unbounded_send(PutAssetRequest { part: Some(part) }).unwrap();
}

/// An upload's header and some of its chunks; more may follow.
fn begin(chunks: usize) -> (Parts, mpsc::UnboundedReceiver<PutAssetRequest>) {
    let (parts, stream) = mpsc::unbounded();
    let size_bytes = Some((CHUNK * CHUNKS) as u64);
    let content_type = "application/octet-stream".into();
    send(
        &parts,
        Part::Header(AssetHeader { name: "a.bin".into(), content_type, size_bytes, ..Default::default() }),
    );
    for _ in 0..chunks {
        send(&parts, Part::Data(vec![7; CHUNK].into()));
    }
    (parts, stream)
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

async fn cut_off(raw: &AssetServiceClient<Transport>, proxy: &FaultProxy, kept: &Path, cut: Cut) {
    let before = files(kept);
    let (parts, stream) = begin(SENT);
    let mut raw = raw.clone();
    let mut put = Box::pin(raw.put_asset(stream));
    tokio::select! {
        answer = &mut put => panic!("{cut:?}: answered before it was cut off: {answer:?}"),
        () = eventually(LIMIT, || async { files(kept) != before }) => {}
    }
    match cut {
        Cut::Cancelled => drop(put),
        Cut::Connection => {
            proxy.cut().await;
            assert!(put.await.is_err());
        }
        Cut::Ended => {
            parts.close_channel();
            let refused = put.await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        }
    }
    eventually(LIMIT, || async { files(kept) == before }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_cut_off_half_way_stores_nothing() {
    let mesh = Mesh::start("").await;
    mesh.client().await;
    let proxy = FaultProxy::start(mesh.gateway).await.unwrap();
    let client = Client::connect(&format!("http://{}", proxy.address()), "ada").await.unwrap();
    let admin = Admin::connect(&format!("http://{}", mesh.admin), "ada").await.unwrap();
    let kept = mesh.data().join("assets");
    let raw = AssetServiceClient::new(client.transport());
    eventually_ok(LIMIT, || async { client.assets().list().try_collect::<Vec<_>>().await }).await;
    for cut in [Cut::Cancelled, Cut::Connection, Cut::Ended] {
        cut_off(&raw, &proxy, &kept, cut).await;
        let stored: Vec<_> =
            eventually_ok(LIMIT, || async { client.assets().list().try_collect().await }).await;
        assert!(stored.is_empty(), "{cut:?}: {stored:?}");
    }
    let (_, replicas) = admin.stats().await.unwrap();
    let puts = replicas.iter().find_map(|replica| match &replica.stats {
        Ok(ServiceStats::Assets(stats)) => Some(stats.puts),
        _ => None,
    });
    assert_eq!(puts, Some(0));
    // The same, whole.
    let (parts, stream) = begin(CHUNKS);
    parts.close_channel();
    raw.clone().put_asset(stream).await.unwrap();
    let stored: Vec<_> = client.assets().list().try_collect().await.unwrap();
    assert_eq!(stored.len(), 1);
}
