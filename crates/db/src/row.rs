//! Rows of a result, whichever driver has read them.

use sea_orm::{ColIdx, DbErr, QueryResult, TryGetable};

#[cfg(feature = "sqlite")]
use crate::direct::{Cell, DirectRow};

/// A row of a result. Values are read by the position or the name of their column.
#[derive(Debug)]
pub struct Row(Source);

#[derive(Debug)]
enum Source {
    /// Read by SeaORM's driver.
    Driver(QueryResult),
    /// Read by Runtrail's own connection to a SQLite file.
    #[cfg(feature = "sqlite")]
    Direct(DirectRow),
}

/// A position, or the name of a column.
pub trait RowIndex: ColIdx + sealed::Sealed {
    /// Returns the position among these names.
    #[cfg(feature = "sqlite")]
    #[doc(hidden)]
    fn position(self, names: &[Box<str>]) -> Option<usize>;
}

impl RowIndex for usize {
    #[cfg(feature = "sqlite")]
    fn position(self, names: &[Box<str>]) -> Option<usize> {
        (self < names.len()).then_some(self)
    }
}

impl RowIndex for &str {
    #[cfg(feature = "sqlite")]
    fn position(self, names: &[Box<str>]) -> Option<usize> {
        names.iter().position(|name| **name == *self)
    }
}

/// A type of value that a row may contain.
pub trait RowValue: TryGetable + sealed::Sealed {
    /// The type's name in SQLite.
    #[doc(hidden)]
    const SQLITE_TYPE: &str;

    /// Converts a value that SQLite has stored; `None` if its type doesn't match.
    #[cfg(feature = "sqlite")]
    #[doc(hidden)]
    fn from_cell(cell: Cell) -> Option<Self>;
}

impl RowValue for i64 {
    const SQLITE_TYPE: &str = "INTEGER";

    #[cfg(feature = "sqlite")]
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Integer(number) => Some(number),
            _ => None,
        }
    }
}

impl RowValue for f64 {
    const SQLITE_TYPE: &str = "REAL";

    #[cfg(feature = "sqlite")]
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Real(number) => Some(number),
            _ => None,
        }
    }
}

impl RowValue for String {
    const SQLITE_TYPE: &str = "TEXT";

    #[cfg(feature = "sqlite")]
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl RowValue for Vec<u8> {
    const SQLITE_TYPE: &str = "BLOB";

    #[cfg(feature = "sqlite")]
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Blob(bytes) | Cell::InvalidText(bytes) => Some(bytes),
            Cell::Text(text) => Some(text.into_bytes()),
            _ => None,
        }
    }
}

impl<T: RowValue> RowValue for Option<T> {
    const SQLITE_TYPE: &str = T::SQLITE_TYPE;

    #[cfg(feature = "sqlite")]
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for usize {}
    impl Sealed for &str {}
    impl Sealed for i64 {}
    impl Sealed for f64 {}
    impl Sealed for String {}
    impl Sealed for Vec<u8> {}
    impl<T: Sealed> Sealed for Option<T> {}
}

impl Row {
    /// Returns the value of a column.
    ///
    /// # Errors
    ///
    /// The column doesn't exist, or its value has another type.
    pub fn get<T: RowValue>(&self, column: impl RowIndex) -> Result<T, DbErr> {
        match &self.0 {
            Source::Driver(row) => row.try_get_by(column),
            #[cfg(feature = "sqlite")]
            Source::Direct(row) => row.get(column),
        }
    }

    /// Like [`get`](Self::get), but doesn't copy a text. The value may be gone afterwards.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    pub fn take<T: RowValue>(&mut self, column: impl RowIndex) -> Result<T, DbErr> {
        match &mut self.0 {
            Source::Driver(row) => row.try_get_by(column),
            #[cfg(feature = "sqlite")]
            Source::Direct(row) => row.take(column),
        }
    }

    /// Returns the row of SeaORM's driver; `None` if another connection has read it.
    pub(crate) fn into_driver_row(self) -> Option<QueryResult> {
        match self.0 {
            Source::Driver(row) => Some(row),
            #[cfg(feature = "sqlite")]
            Source::Direct(_) => None,
        }
    }

    /// Returns whether SQLite stores a value as text, whether or not the text is valid UTF-8.
    /// Always `false` on PostgreSQL, where values have the type of their column.
    pub fn is_text(&self, column: &str) -> bool {
        match &self.0 {
            #[cfg(feature = "sqlite")]
            Source::Driver(row) => is_text(row, column),
            #[cfg(not(feature = "sqlite"))]
            Source::Driver(_) => {
                let _ = column;
                false
            }
            #[cfg(feature = "sqlite")]
            Source::Direct(row) => row.is_text(column),
        }
    }
}

#[cfg(feature = "sqlite")]
fn is_text(row: &QueryResult, column: &str) -> bool {
    use sea_orm::sqlx::{Row, TypeInfo, ValueRef};

    let row = row.try_as_sqlite_row();
    let value = row.and_then(|row| row.try_get_raw(column).ok());
    value.is_some_and(|value| value.type_info().name() == "TEXT")
}

impl From<QueryResult> for Row {
    fn from(row: QueryResult) -> Self {
        Self(Source::Driver(row))
    }
}

#[cfg(feature = "sqlite")]
impl From<DirectRow> for Row {
    fn from(row: DirectRow) -> Self {
        Self(Source::Direct(row))
    }
}
