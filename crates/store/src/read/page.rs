//! Keyset pagination: each page starts at a cursor.

use runtrail_audit::{CursorPage, Error, ListOrder, PageRequest, Result};
use runtrail_db::keyset::{self, Part};
use runtrail_db::{Executor, Row, backend};
use sea_orm::sea_query::{Expr, SelectStatement};
use sea_orm::{ColumnTrait, ColumnType, Value};

use crate::codec::{self, Bookmark, ListId};
use crate::settings::Session;

/// A list that is read in pages.
pub(crate) struct List<K: 'static> {
    /// Selects all rows of the table.
    pub(crate) rows: SelectStatement,
    pub(crate) parts: Vec<Part<K>>,
    pub(crate) id: ListId,
    /// The columns of the sort key.
    pub(crate) key: &'static [K],
    pub(crate) order: ListOrder,
}

impl<K: ColumnTrait> List<K> {
    pub(crate) async fn page<T>(
        mut self,
        db: &Session<'_, impl Executor>,
        request: &PageRequest,
        decode: impl Fn(Row) -> Result<T>,
    ) -> Result<CursorPage<T>> {
        let PageRequest { limit, cursor, .. } = request;
        if !(1..=PageRequest::MAX_LIMIT).contains(limit) {
            let reason = format!("is {limit}, not from 1 to {}", PageRequest::MAX_LIMIT);
            return Err(Error::invalid("limit", reason));
        }
        let from = cursor.as_ref();
        let from = from.map(|cursor| codec::decode_cursor(self.id, cursor, self.key.len()));
        let from = from.transpose()?;
        let is_backward = from.as_ref().is_some_and(|bookmark| bookmark.is_backward);
        let direction = match is_backward {
            true => self.order.reversed(),
            false => self.order,
        };
        let mut parts = std::mem::take(&mut self.parts);
        if let Some(bookmark) = from {
            self.verify_types(db, &bookmark.key)?;
            let after: Vec<Expr> = bookmark.key.into_iter().map(Expr::val).collect();
            parts = keyset::after(parts, self.key, &after, direction);
        }
        // One more row than requested, which shows whether more rows follow.
        let query = keyset::first_rows(
            db.backend(),
            std::mem::take(&mut self.rows),
            parts,
            self.key,
            direction,
            limit + 1,
            None,
        );
        let mut rows = db.fetch(&query).await?;
        let has_more = rows.len() as u64 > *limit;
        if has_more {
            rows.pop();
        }
        if is_backward {
            rows.reverse();
        }
        let cursor_at = |row: Option<&Row>, to_previous: bool| match row {
            Some(row) => self.cursor(row, to_previous).map(Some),
            // An empty page is at an end of the list; the requested cursor still marks that end.
            None => Ok(cursor.clone().filter(|_| is_backward == to_previous)),
        };
        let start = cursor_at(rows.first(), true)?;
        let end = cursor_at(rows.last(), false)?;
        // The row of the requested cursor is on the next page if the cursor leads backward, and
        // on the previous page otherwise.
        let has_origin = cursor.is_some() && !rows.is_empty();
        let (has_previous, has_next) = match is_backward {
            true => (has_more, has_origin),
            false => (has_origin, has_more),
        };
        let mut page = CursorPage::new(codec::decode_readable(rows, decode)?);
        page.previous = start.clone().filter(|_| has_previous);
        page.next = end.clone().filter(|_| has_next);
        page.start_cursor = start;
        page.end_cursor = end;
        Ok(page)
    }

    /// Creates a cursor to the rows after this one, or before it.
    fn cursor(&self, row: &Row, is_backward: bool) -> Result<runtrail_audit::Cursor> {
        let key = keyset::raw_values(row, self.key)?;
        codec::encode_cursor(self.id, Bookmark { is_backward, key })
    }

    /// Checks that a cursor's key has the types of the columns: PostgreSQL would reject a query
    /// with others. SQLite compares values of any type.
    fn verify_types(&self, db: &Session<'_, impl Executor>, key: &[Value]) -> Result<()> {
        let fits = |(column, value): (&K, &Value)| match value {
            Value::BigInt(_) => *column.def().get_column_type() == ColumnType::BigInteger,
            Value::String(Some(text)) => {
                *column.def().get_column_type() == ColumnType::Text && !text.contains('\0')
            }
            _ => false,
        };
        if backend::has_schemas(db.backend()) && !self.key.iter().zip(key).all(fits) {
            return Err(Error::invalid(
                "cursor",
                "is malformed: pass one that a page returned",
            ));
        }
        Ok(())
    }
}
