//! Streams a list in chunks, with a separate query for each chunk.

use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use runtrail_audit::Result;
use runtrail_db::{Row, keyset};
use sea_orm::IdenStatic;
use sea_orm::sea_query::Expr;

/// Consecutive rows of a list.
pub(crate) struct Chunk<T> {
    /// The decoded rows; a damaged row is an error.
    pub(crate) records: Vec<Result<T>>,
    /// The key of the last row, after which the next chunk starts; `None` at the end of the list.
    pub(crate) end: Option<Vec<Expr>>,
}

impl<T> Chunk<T> {
    /// Decodes rows that were fetched with this limit and sorted by these columns.
    pub(crate) fn from_rows(
        rows: Vec<Row>,
        limit: u64,
        key: &[impl IdenStatic],
        decode: impl Fn(Row) -> Result<T>,
    ) -> Result<Self> {
        Ok(Self {
            end: keyset::end(&rows, limit, key)?,
            records: rows.into_iter().map(decode).collect(),
        })
    }
}

/// Streams a list; `read` returns the chunk after a key, or the first one.
pub(crate) fn stream<'a, T, F>(
    read: impl Fn(Option<Vec<Expr>>) -> F + Send + 'a,
) -> BoxStream<'a, Result<T>>
where
    T: Send + 'a,
    F: Future<Output = Result<Chunk<T>>> + Send + 'a,
{
    /// The start of the next chunk.
    enum Position {
        Start,
        After(Vec<Expr>),
        End,
    }

    let chunks = stream::unfold((read, Position::Start), |(read, position)| async move {
        let after = match position {
            Position::Start => None,
            Position::After(key) => Some(key),
            Position::End => return None,
        };
        let (records, next) = match read(after).await {
            Ok(chunk) => (
                chunk.records,
                chunk.end.map_or(Position::End, Position::After),
            ),
            Err(err) => (vec![Err(err)], Position::End),
        };
        Some((stream::iter(records), (read, next)))
    });
    chunks.flatten().fuse().boxed()
}
