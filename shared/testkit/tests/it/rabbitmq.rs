//! A private RabbitMQ, by way of its client.
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use weft_testkit::RabbitMq;

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn declare(channel: &Channel, queue: &str) {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
}

async fn publish(channel: &Channel, queue: &str, body: &[u8]) {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish("".into(), queue.into(), options, body, persistent).await.unwrap();
    assert!(confirm.await.unwrap().is_ack());
}

async fn get(channel: &Channel, queue: &str) -> Option<Vec<u8>> {
    let message = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap();
    message.map(|message| message.delivery.data)
}

#[tokio::test]
async fn a_virtual_host_per_test_on_the_shared_one() {
    let server = RabbitMq::shared().await.unwrap();
    let (one, other) = tokio::try_join!(server.vhost(), server.vhost()).unwrap();
    let (_one, one) = channel(&one).await;
    let (_other, other) = channel(&other).await;
    declare(&one, "queue").await;
    declare(&other, "queue").await;
    publish(&one, "queue", b"for one").await;
    assert_eq!(get(&other, "queue").await, None);
    assert_eq!(get(&one, "queue").await.as_deref(), Some(&b"for one"[..]));
}

#[tokio::test]
async fn keeps_confirmed_messages_through_a_kill() {
    let server = RabbitMq::start().await.unwrap();
    let (_connection, before) = channel(server.url()).await;
    declare(&before, "queue").await;
    publish(&before, "queue", b"durable").await;
    server.restart().await.unwrap();
    let (_connection, after) = channel(server.url()).await;
    assert_eq!(get(&after, "queue").await.as_deref(), Some(&b"durable"[..]));
}
