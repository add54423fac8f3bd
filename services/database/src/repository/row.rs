//! Parameters and rows, in the few types that both databases share.

use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};

use crate::{entities::Micros, error::Error};

/// A parameter of a query. Lists are arrays on PostgreSQL and JSON on SQLite; vectors are pgvector's there and
/// little-endian float32 here.
#[derive(Clone, Debug)]
pub enum Param {
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// A text or NULL.
    Optional(Option<String>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of numbers.
    Ints(Vec<i64>),
    /// An embedding.
    Vector(Vec<f32>),
    /// A list of embeddings.
    Vectors(Vec<Vec<f32>>),
}

/// Builds a list of parameters: `$1`, `$2`, …
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { vec![$($crate::repository::Param::from($value)),*] };
}

macro_rules! from {
    ($($source:ty => |$value:ident| $param:expr;)*) => {
        $(impl From<$source> for Param {
            fn from($value: $source) -> Self {
                $param
            }
        })*
    };
}

from! {
    i64 => |value| Self::Int(value);
    u32 => |value| Self::Int(i64::from(value));
    u64 => |value| Self::Int(i64::try_from(value).unwrap_or(i64::MAX));
    usize => |value| Self::Int(i64::try_from(value).unwrap_or(i64::MAX));
    Micros => |value| Self::Int(value.0);
    &str => |value| Self::Text(value.to_owned());
    &String => |value| Self::Text(value.clone());
    String => |value| Self::Text(value);
    Option<String> => |value| Self::Optional(value);
    Option<&str> => |value| Self::Optional(value.map(str::to_owned));
    Vec<u8> => |value| Self::Bytes(value);
    Vec<String> => |value| Self::Texts(value);
    &[String] => |value| Self::Texts(value.to_vec());
    Vec<i64> => |value| Self::Ints(value);
    Vec<f32> => |value| Self::Vector(value);
    &[f32] => |value| Self::Vector(value.to_vec());
    Vec<Vec<f32>> => |value| Self::Vectors(value);
}

/// A row of either database.
#[derive(Debug)]
pub enum Row {
    /// Of SQLite.
    Sqlite(SqliteRow),
    /// Of PostgreSQL.
    Postgres(PgRow),
}

macro_rules! column {
    ($($(#[$doc:meta])* $name:ident -> $type:ty;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        /// When there is no such column of that type: a defect.
        pub fn $name(&self, column: &str) -> Result<$type, Error> {
            let value = match self {
                Self::Sqlite(row) => row.try_get(column),
                Self::Postgres(row) => row.try_get(column),
            };
            value.map_err(|source| Error::caused(format!("cannot read column {column}"), source))
        })*
    };
}

impl Row {
    column! {
        /// A number.
        int -> i64;
        /// A number or NULL.
        optional_int -> Option<i64>;
        /// A text.
        text -> String;
        /// Bytes.
        bytes -> Vec<u8>;
        /// A floating-point number.
        float -> f64;
    }

    /// A time.
    ///
    /// # Errors
    /// When there is no such column of that type: a defect.
    pub fn micros(&self, column: &str) -> Result<Micros, Error> {
        self.int(column).map(Micros)
    }

    /// A number that is stored as `bigint` and is smaller.
    ///
    /// # Errors
    /// When there is no such column, or the number does not fit: a defect.
    pub fn small<T: TryFrom<i64>>(&self, column: &str) -> Result<T, Error> {
        let value = self.int(column)?;
        T::try_from(value).map_err(|_| Error::internal(format!("column {column} holds {value}")))
    }
}
