//! `weft ask` with a configured provider: the answer is shown while the provider still writes it, and a provider that
//! refuses is a clear failure.

pub(crate) mod stub;

use futures::TryStreamExt;
use tokio::{io::AsyncReadExt, time::timeout};

use crate::process::{LIMIT, Mesh};
use stub::Provider;

/// Asks twice: the first answer comes in pieces, each sent only after the one before it was shown.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_shown_as_the_provider_writes_it_and_a_refusal_is_told() {
    let (provider, [answer]) = Provider::start().await;
    let mesh = Mesh::start(&format!("[queue]\nprovider = {}\n", provider.config())).await;
    let client = mesh.client().await;
    let mut asking = mesh.command(&["ask", "When is high tide?"]).spawn().unwrap();
    let mut out = asking.stdout.take().unwrap();
    for piece in ["High tide", " is at", " six."] {
        answer.write(piece);
        let mut shown = vec![0; piece.len()];
        timeout(LIMIT, out.read_exact(&mut shown))
            .await
            .expect("the piece is shown before the next")
            .unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), piece);
    }
    answer.end();
    let ended = asking.wait_with_output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let chats: Vec<_> = client.chats().list().try_collect().await.unwrap();
    let messages: Vec<_> = client.messages().list(&chats[0].id).try_collect().await.unwrap();
    assert_eq!(messages[0].content, "High tide is at six.");

    let refused = mesh.command(&["ask", "And low tide?"]).output().await.unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let expected =
        "error: no answer after 1 attempts: the provider answered 401: the key has run dry; `weft jobs show ";
    assert!(said.starts_with(expected), "{said}");
}
