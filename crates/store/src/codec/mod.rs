//! Converts records to rows and back. Encoding rejects invalid values, decoding reports damaged
//! rows.

mod budget;
mod cursor;
mod log;
mod outcome;
mod owner;
mod reservation;
mod run;
mod staged_record;

use runtrail_audit::{Error, Result};
use runtrail_db::{Row, RowValue};
use sea_orm::IdenStatic;
use serde_json::Value;

pub(crate) use budget::{budget_statuses, decode_counted, encode_budget, read_slot};
pub(crate) use cursor::{
    Bookmark, ListId, decode_cursor, decode_position, encode_cursor, encode_position,
};
pub(crate) use log::{LogValue, decode_log, encode_log, is_same_event, read_log, written_columns};
pub(crate) use outcome::Outcome;
pub(crate) use owner::decode_owner;
pub(crate) use reservation::{encode_reservation, is_same_request, read_reservation};
pub(crate) use run::{
    SUMMARY, decode_run, decode_summary, encode_run, has_keys, is_same_run, is_same_start,
    is_whole_number, merge_labels, read_finish, read_run, run_values,
};
pub(crate) use staged_record::{decode_staged_record, encode_staged_record};

/// Decodes all rows. Damaged rows are reported and left out, so that they don't hide the others.
pub(crate) fn decode_readable<T>(
    rows: Vec<Row>,
    decode: impl Fn(Row) -> Result<T>,
) -> Result<Vec<T>> {
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(record) = skip_damaged(decode(row))? {
            records.push(record);
        }
    }
    Ok(records)
}

/// Reports a damaged row through `tracing`, and returns `None` for it.
pub(crate) fn skip_damaged<T>(decoded: Result<T>) -> Result<Option<T>> {
    match decoded {
        Ok(record) => Ok(Some(record)),
        Err(Error::Corrupt {
            table,
            id,
            column,
            reason,
        }) => {
            tracing::warn!(table, id, column, reason, "left out a damaged row");
            Ok(None)
        }
        Err(err) => Err(err),
    }
}

/// A column of an entity. Queries select the first columns of an entity or all of them, in this
/// order, so that values are read by position.
trait Column: IdenStatic {
    fn position(self) -> usize;
}

impl Column for runtrail_entity::budget::Column {
    fn position(self) -> usize {
        self as usize
    }
}

impl Column for runtrail_entity::budget_reservation::Column {
    fn position(self) -> usize {
        self as usize
    }
}

impl Column for runtrail_entity::budget_usage::Column {
    fn position(self) -> usize {
        self as usize
    }
}

impl Column for runtrail_entity::owner::Column {
    fn position(self) -> usize {
        self as usize
    }
}

impl Column for runtrail_entity::skill_run::Column {
    fn position(self) -> usize {
        self as usize
    }
}

impl Column for runtrail_entity::skill_run_log::Column {
    fn position(self) -> usize {
        self as usize
    }
}

impl Column for runtrail_entity::staged_record::Column {
    fn position(self) -> usize {
        self as usize
    }
}

/// The position of a column in a query that selects runs or summaries.
pub(crate) fn position(column: runtrail_entity::skill_run::Column) -> usize {
    Column::position(column)
}

/// Decodes the columns of a row, and identifies the row in a `Corrupt` error.
struct RowDecoder<'a> {
    table: &'static str,
    id: &'a str,
}

impl RowDecoder<'_> {
    fn take<T: RowValue>(&self, row: &mut Row, column: impl Column) -> Result<T> {
        row.take(column.position())
            .map_err(|err| self.corrupt(column, format!("can't be read: {err}")))
    }

    fn count(&self, value: i64, column: impl IdenStatic) -> Result<u64> {
        u64::try_from(value).map_err(|_| self.corrupt(column, "is negative"))
    }

    fn time(&self, micros: i64, column: impl IdenStatic) -> Result<chrono::DateTime<chrono::Utc>> {
        chrono::DateTime::from_timestamp_micros(micros)
            .ok_or_else(|| self.corrupt(column, "is out of range"))
    }

    fn json<T: serde::de::DeserializeOwned>(
        &self,
        text: &str,
        column: impl IdenStatic,
    ) -> Result<T> {
        serde_json::from_str(text).map_err(|err| {
            self.corrupt(column, format!("doesn't contain the expected JSON: {err}"))
        })
    }

    fn corrupt(&self, column: impl IdenStatic, reason: impl Into<String>) -> Error {
        Error::Corrupt {
            table: self.table,
            id: self.id.to_owned(),
            column: column.as_str(),
            reason: reason.into(),
        }
    }
}

/// Whether two JSON texts have the same value; the order of keys doesn't matter.
fn is_same_json(left: &str, right: &str) -> bool {
    let value = |text| serde_json::from_str::<Value>(text).ok();
    left == right || (value(left).is_some() && value(left) == value(right))
}
