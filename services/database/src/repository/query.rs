//! The registry of queries: every SQL statement of the service has a name, under which it is counted, logged when slow,
//! and explained.

/// Which database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `SQLite`.
    Sqlite,
    /// `PostgreSQL`.
    Postgres,
}

impl Dialect {
    /// Its name: `sqlite` or `postgres`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// Its name in OpenTelemetry's `db.system.name`.
    #[must_use]
    pub const fn system_name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
        }
    }
}

macro_rules! file {
    ($path:expr) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/queries/", $path, ".sql"))
    };
}

macro_rules! text {
    (shared, $name:literal) => {
        (Some(file!($name)), Some(file!($name)))
    };
    (each, $name:literal) => {
        (Some(file!(concat!("sqlite/", $name))), Some(file!(concat!("postgres/", $name))))
    };
    (sqlite, $name:literal) => {
        (Some(file!(concat!("sqlite/", $name))), None)
    };
    (postgres, $name:literal) => {
        (None, Some(file!(concat!("postgres/", $name))))
    };
}

macro_rules! queries {
    ($($query:ident = $name:literal $home:ident;)*) => {
        /// A registered query. `shared` ones have one text for both databases, in `queries/`; `each` have one per
        /// database, in `queries/sqlite/` and `queries/postgres/`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Query {
            $(#[doc = concat!("`", $name, "`")] $query,)*
        }

        impl Query {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$query),*];

            /// The name: that of its file.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$query => $name),* }
            }

            /// The text for a database; `None` when that database has no use for it.
            #[must_use]
            pub const fn sql(self, dialect: Dialect) -> Option<&'static str> {
                let (sqlite, postgres): (Option<&str>, Option<&str>) = match self {
                    $(Self::$query => text!($home, $name)),*
                };
                match dialect {
                    Dialect::Sqlite => sqlite,
                    Dialect::Postgres => postgres,
                }
            }
        }
    };
}

queries! {
    UserEnsure = "user_ensure" shared;
    UserCreate = "user_create" shared;
    UserGet = "user_get" shared;
    UserBatchGet = "user_batch_get" each;
    UserList = "user_list" shared;
    UserUpdate = "user_update" shared;
    UserDelete = "user_delete" shared;
    UserChatsForget = "user_chats_forget" shared;
    UserDocumentsForget = "user_documents_forget" shared;
    ChatCreate = "chat_create" shared;
    ChatByIdempotencyKey = "chat_by_idempotency_key" shared;
    ChatGet = "chat_get" shared;
    ChatLock = "chat_lock" each;
    ChatBatchGet = "chat_batch_get" each;
    ChatList = "chat_list" shared;
    ChatRename = "chat_rename" shared;
    ChatAppend = "chat_append" shared;
    ChatDelete = "chat_delete" shared;
    MessageInsert = "message_insert" shared;
    MessageByIdempotencyKey = "message_by_idempotency_key" shared;
    MessageByReplyJob = "message_by_reply_job" shared;
    MessageList = "message_list" shared;
    ModelPut = "model_put" shared;
    ModelGet = "model_get" shared;
    ModelList = "model_list" shared;
    ModelDelete = "model_delete" shared;
    DocumentInsert = "document_insert" shared;
    DocumentRenew = "document_renew" shared;
    DocumentComplete = "document_complete" shared;
    DocumentFail = "document_fail" shared;
    DocumentGet = "document_get" shared;
    DocumentLock = "document_lock" each;
    DocumentLockByPath = "document_lock_by_path" each;
    DocumentBatchGet = "document_batch_get" each;
    DocumentList = "document_list" shared;
    DocumentListInState = "document_list_in_state" shared;
    DocumentDelete = "document_delete" shared;
    ChunkAny = "chunk_any" shared;
    ChunkCount = "chunk_count" shared;
    ChunkRetain = "chunk_retain" shared;
    ChunkDiscard = "chunk_discard" shared;
    ChunkInsert = "chunk_insert" each;
    ChunkMatch = "chunk_match" each;
    ChunkFetch = "chunk_fetch" each;
    ChunkNearest = "chunk_nearest" postgres;
    ChunkLastId = "chunk_last_id" sqlite;
    ChunkIndexInsert = "chunk_index_insert" sqlite;
    ChunkVectorInsert = "chunk_vector_insert" sqlite;
    ChunkVectorRetain = "chunk_vector_retain" sqlite;
    ChunkVectorDiscard = "chunk_vector_discard" sqlite;
    ChunkVectorScan = "chunk_vector_scan" sqlite;
    EmbeddingDimension = "embedding_dimension" each;
    EmbeddingDimensionClaim = "embedding_dimension_claim" shared;
    EmbeddingDimensionSet = "embedding_dimension_set" shared;
    NotificationCreate = "notification_create" shared;
    NotificationByJob = "notification_by_job" shared;
    NotificationList = "notification_list" shared;
    NotificationListUnread = "notification_list_unread" shared;
    NotificationMarkRead = "notification_mark_read" each;
    OutboxInsert = "outbox_insert" shared;
    OutboxDue = "outbox_due" shared;
    OutboxClaim = "outbox_claim" each;
    OutboxDefer = "outbox_defer" shared;
    OutboxDelete = "outbox_delete" each;
    OutboxState = "outbox_state" shared;
}

impl Query {
    /// Its place in [`Query::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The query of that name, if that database has it.
    #[must_use]
    pub fn named(name: &str, dialect: Dialect) -> Option<Self> {
        Self::ALL.iter().copied().find(|query| query.name() == name && query.sql(dialect).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (index, query) in Query::ALL.iter().enumerate() {
            assert_eq!(query.index(), index);
            let dialect =
                if query.sql(Dialect::Sqlite).is_some() { Dialect::Sqlite } else { Dialect::Postgres };
            assert_eq!(Query::named(query.name(), dialect), Some(*query));
        }
        assert_eq!(Query::named("chunk_nearest", Dialect::Sqlite), None);
        assert_eq!(Query::named("nothing", Dialect::Sqlite), None);
    }
}
