//! The contract of the repository, sentence by sentence, on every engine.

mod documents;
mod engine;
mod entities;
mod outbox;

/// Runs each function as a test on every engine.
macro_rules! on_every_engine {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&$crate::fixture::Fixture::sqlite().await).await;
            })*
        }

        #[cfg(feature = "real-backends")]
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&$crate::fixture::Fixture::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_every_engine;
