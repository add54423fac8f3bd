//! A private S3, by way of its client.
use object_store::{ObjectStore, ObjectStoreExt as _, aws::AmazonS3Builder, path::Path};
use tokio::net::TcpStream;
use weft_testkit::S3;

/// A builder for the server; the client underneath wants a TLS provider, used or not.
fn builder(server: &S3) -> AmazonS3Builder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    AmazonS3Builder::new().with_endpoint(server.url()).with_allow_http(true)
}

fn client(server: &S3, bucket: &str) -> impl ObjectStore {
    let builder = builder(server)
        .with_bucket_name(bucket)
        .with_region(S3::REGION)
        .with_access_key_id(S3::ACCESS_KEY_ID)
        .with_secret_access_key(S3::SECRET_ACCESS_KEY);
    builder.build().unwrap()
}

#[tokio::test]
async fn keeps_objects_through_a_kill_and_buckets_apart() {
    let server = S3::start().await.unwrap();
    let (one, other) = (server.bucket().await.unwrap(), server.bucket().await.unwrap());
    let (one, other) = (client(&server, &one), client(&server, &other));
    let path = Path::from("folder/object");
    one.put(&path, "bytes".into()).await.unwrap();
    server.stop().await.unwrap();
    assert!(TcpStream::connect(server.address()).await.is_err());
    server.restart().await.unwrap();
    assert_eq!(one.get(&path).await.unwrap().bytes().await.unwrap(), "bytes");
    assert!(matches!(other.get(&path).await, Err(object_store::Error::NotFound { .. })));
}

#[tokio::test]
async fn refuses_a_wrong_secret() {
    let server = S3::start().await.unwrap();
    let bucket = server.bucket().await.unwrap();
    let builder = builder(&server).with_bucket_name(bucket).with_region(S3::REGION);
    let intruder =
        builder.with_access_key_id(S3::ACCESS_KEY_ID).with_secret_access_key("guess").build().unwrap();
    assert!(intruder.put(&Path::from("object"), "bytes".into()).await.is_err());
}
