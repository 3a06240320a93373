//! Reading a list in stretches, each with a query of its own.

use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use runtrail_audit::Result;
use runtrail_db::keyset;
use sea_orm::sea_query::Expr;
use sea_orm::{IdenStatic, QueryResult};

/// Some rows of a list, and the key of the last one, from which the next stretch goes on.
pub(crate) struct Stretch<T> {
    /// A damaged row is an error among the others.
    pub(crate) records: Vec<Result<T>>,
    /// None where the list ends.
    pub(crate) end: Option<Vec<Expr>>,
}

impl<T> Stretch<T> {
    /// Of rows that were fetched with this limit, ordered by these columns.
    pub(crate) fn of(
        rows: &[QueryResult],
        limit: u64,
        key: &[impl IdenStatic],
        decode: impl Fn(&QueryResult) -> Result<T>,
    ) -> Result<Self> {
        let last = rows.last().filter(|_| rows.len() as u64 == limit);
        let end = last.map(|row| keyset::position(row, key)).transpose()?;
        Ok(Self {
            records: rows.iter().map(decode).collect(),
            end,
        })
    }
}

/// A list as a stream; `read` gives the stretch after a key, or the first one.
pub(crate) fn stream<'a, T, F>(
    read: impl Fn(Option<Vec<Expr>>) -> F + Send + 'a,
) -> BoxStream<'a, Result<T>>
where
    T: Send + 'a,
    F: Future<Output = Result<Stretch<T>>> + Send + 'a,
{
    /// Where the next stretch begins, if there is one.
    enum Place {
        Start,
        After(Vec<Expr>),
        End,
    }

    let stretches = stream::unfold((read, Place::Start), |(read, place)| async move {
        let after = match place {
            Place::Start => None,
            Place::After(key) => Some(key),
            Place::End => return None,
        };
        let (records, next) = match read(after).await {
            Ok(stretch) => (
                stretch.records,
                stretch.end.map_or(Place::End, Place::After),
            ),
            Err(err) => (vec![Err(err)], Place::End),
        };
        Some((stream::iter(records), (read, next)))
    });
    stretches.flatten().fuse().boxed()
}
