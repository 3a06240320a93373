use std::sync::Arc;

use rusqlite::types::ValueRef;
use sea_orm::{DbErr, RuntimeErr};

use crate::row::{RowIndex, RowValue};

/// The names of a result's columns.
pub(crate) type Names = [Box<str>];

/// A row that was read without SeaORM's driver.
#[derive(Debug)]
pub(crate) struct DirectRow {
    names: Arc<Names>,
    cells: Box<[Cell]>,
}

/// A value with the type that SQLite stores it with.
#[derive(Clone, Debug)]
pub enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    /// A text that isn't UTF-8.
    InvalidText(Vec<u8>),
    Blob(Vec<u8>),
}

impl Cell {
    fn read(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::InvalidText(text.to_owned()),
            },
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_owned()),
        }
    }

    /// The name of the type in SQLite.
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Integer(_) => "INTEGER",
            Self::Real(_) => "REAL",
            Self::Text(_) => "TEXT",
            Self::InvalidText(_) => "TEXT that is not UTF-8",
            Self::Blob(_) => "BLOB",
        }
    }
}

impl DirectRow {
    pub(super) fn read(names: &Arc<Names>, row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let mut cells = Vec::with_capacity(names.len());
        for position in 0..names.len() {
            cells.push(Cell::read(row.get_ref(position)?));
        }
        Ok(Self {
            names: Arc::clone(names),
            cells: cells.into_boxed_slice(),
        })
    }

    pub(crate) fn get<T: RowValue>(&self, column: impl RowIndex) -> Result<T, DbErr> {
        let cell = &self.cells[self.position(column)?];
        convert(cell.clone())
    }

    pub(crate) fn take<T: RowValue>(&mut self, column: impl RowIndex) -> Result<T, DbErr> {
        let position = self.position(column)?;
        let cell = std::mem::replace(&mut self.cells[position], Cell::Null);
        convert(cell)
    }

    pub(crate) fn is_text(&self, column: &str) -> bool {
        let position = column.position(&self.names);
        let cell = position.map(|position| &self.cells[position]);
        matches!(cell, Some(Cell::Text(_) | Cell::InvalidText(_)))
    }

    /// The position of a column; in bounds, since there are as many names as cells.
    fn position(&self, column: impl RowIndex) -> Result<usize, DbErr> {
        let position = column.position(&self.names);
        position.ok_or_else(|| unreadable(format!("the result has no column {column:?}")))
    }
}

fn convert<T: RowValue>(cell: Cell) -> Result<T, DbErr> {
    let kind = cell.kind();
    T::from_cell(cell).ok_or_else(|| {
        let expected = T::SQLITE_TYPE;
        unreadable(format!("the value has type {kind} instead of {expected}"))
    })
}

#[cold]
fn unreadable(reason: String) -> DbErr {
    DbErr::Query(RuntimeErr::Internal(reason))
}
