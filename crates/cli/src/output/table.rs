use std::borrow::Cow;
use std::io::{self, Write};

use anstyle::Style;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::style::Style as Borders;
use tabled::settings::{Alignment, Modify, Padding, Width};

/// The spaces between two columns.
const GAP: usize = 2;

/// If the table is too wide, texts are first cut to this width.
const LONG_TEXT: usize = 24;

/// Ids are cut only once all texts are cut to this width.
const SHORT_TEXT: usize = 9;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Id,
    Number,
}

/// One column of a [`Table`].
#[derive(Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    kind: Kind,
    /// If the table is too wide, lighter columns are dropped first; `u8::MAX` is never dropped.
    weight: u8,
    /// Whether the column is dropped if it has nothing but its title.
    unless_empty: bool,
}

impl Column {
    /// Returns a column of text.
    pub(crate) const fn text(title: &'static str) -> Self {
        Self {
            title,
            kind: Kind::Text,
            weight: u8::MAX,
            unless_empty: false,
        }
    }

    /// Returns a column of ids. Ids that must be cut are cut in the middle, since their ends
    /// distinguish them.
    pub(crate) const fn id(title: &'static str) -> Self {
        Self {
            kind: Kind::Id,
            ..Self::text(title)
        }
    }

    /// Returns a column that is aligned to the right.
    pub(crate) const fn number(title: &'static str) -> Self {
        Self {
            kind: Kind::Number,
            ..Self::text(title)
        }
    }

    /// Lets the column be dropped if the table is too wide, the lightest column first.
    pub(crate) const fn with_weight(self, weight: u8) -> Self {
        Self { weight, ..self }
    }

    /// Drops the column if all its cells are empty.
    pub(crate) const fn unless_empty(self) -> Self {
        Self {
            unless_empty: true,
            ..self
        }
    }
}

/// Rows under titles, fitted into a width. If the table is too wide, long texts are cut, then
/// columns that have a weight are dropped, then the widest columns are cut until it fits.
pub(crate) struct Table<const N: usize> {
    columns: &'static [Column; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: &'static [Column; N]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// Whether the table fits without cuts.
    pub(crate) fn fits(&self, width: Option<usize>) -> bool {
        width.is_none_or(|width| excess(&self.needed(), width) == 0)
    }

    pub(crate) fn print(&self, out: &mut impl Write, width: Option<usize>) -> io::Result<()> {
        let layout = self.layout(width.unwrap_or(usize::MAX));
        let heading = Style::new().bold();
        let mut builder = Builder::with_capacity(self.rows.len() + 1, layout.len());
        builder.push_record(layout.iter().map(|&(column, _)| {
            let title = self.columns[column].title;
            format!("{heading}{title}{heading:#}")
        }));
        for row in &self.rows {
            builder.push_record(layout.iter().map(|&(column, room)| {
                let cell = row[column].as_str();
                match self.columns[column].kind {
                    Kind::Id => cut_in_the_middle(cell, room),
                    Kind::Text | Kind::Number => cell.into(),
                }
            }));
        }

        let mut table = builder.build();
        table
            .with(Borders::empty())
            .with(Padding::new(0, GAP, 0, 0));
        for (place, &(column, room)) in layout.iter().enumerate() {
            let cells = Columns::one(place);
            table.with(Modify::new(cells).with(Width::truncate(room).suffix("…")));
            if self.columns[column].kind == Kind::Number {
                table.with(Modify::new(cells).with(Alignment::right()));
            }
        }
        for line in table.to_string().lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Returns the columns to show, each with its width.
    fn layout(&self, width: usize) -> Vec<(usize, usize)> {
        let mut layout = self.needed();
        if excess(&layout, width) == 0 {
            return layout;
        }

        for (column, room) in &mut layout {
            if self.columns[*column].kind == Kind::Text {
                *room = (*room).min(LONG_TEXT);
            }
        }
        let weight = |column: usize| self.columns[column].weight;
        while excess(&layout, width) > 0
            && let Some(lightest) = layout.iter().map(|&(column, _)| weight(column)).min()
            && lightest < u8::MAX
        {
            layout.retain(|&(column, _)| weight(column) != lightest);
        }
        // Cut texts before ids, since an id is of little use without its end.
        while excess(&layout, width) > 0 {
            let is_id = |column: usize| self.columns[column].kind == Kind::Id;
            let texts = layout.iter_mut().filter(|(column, _)| !is_id(*column));
            let widest = texts.max_by_key(|(_, room)| *room);
            let widest = match widest {
                Some((_, room)) if *room > SHORT_TEXT => Some(room),
                _ => layout.iter_mut().map(|(_, room)| room).max(),
            };
            match widest {
                Some(room) if *room > 1 => *room -= 1,
                _ => break,
            }
        }
        layout
    }

    /// Returns each column that isn't dropped, with the width that it needs.
    fn needed(&self) -> Vec<(usize, usize)> {
        let is_empty = |column: usize| self.rows.iter().all(|row| row[column].is_empty());
        let is_shown = |column: &usize| !self.columns[*column].unless_empty || !is_empty(*column);
        let needed = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].as_str());
            let cells = cells.chain([self.columns[column].title]);
            cells.map(console::measure_text_width).max().unwrap_or(0)
        };
        let shown = (0..N).filter(is_shown);
        shown.map(|column| (column, needed(column))).collect()
    }
}

/// Returns by how much the columns of a layout exceed a width.
fn excess(layout: &[(usize, usize)], width: usize) -> usize {
    let total: usize = layout.iter().map(|(_, room)| room + GAP).sum();
    total.saturating_sub(GAP).saturating_sub(width)
}

fn cut_in_the_middle(id: &str, room: usize) -> Cow<'_, str> {
    let width = console::measure_text_width(id);
    if width <= room {
        return id.into();
    }
    let head = console::truncate_str(id, room / 3, "");
    let mut tail = id;
    let mut characters = id.chars();
    while console::measure_text_width(tail) + room / 3 + 1 > room && characters.next().is_some() {
        tail = characters.as_str();
    }
    format!("{head}…{tail}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::id("RUN"),
        Column::text("SKILL"),
        Column::number("TOKENS"),
        Column::text("CHANNEL").with_weight(1),
    ];

    fn printed(width: usize) -> Vec<String> {
        let mut table = Table::new(&COLUMNS);
        table
            .push(["0123456789abcdef", "a skill with a long name", "7", "cron"].map(str::to_owned));
        let mut out = Vec::new();
        table.print(&mut out, Some(width)).unwrap();
        let text = console::strip_ansi_codes(str::from_utf8(&out).unwrap()).into_owned();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_table_that_fits_is_printed_in_full() {
        assert_eq!(
            printed(61),
            [
                "RUN               SKILL                     TOKENS  CHANNEL",
                "0123456789abcdef  a skill with a long name       7  cron",
            ]
        );
    }

    #[test]
    fn light_columns_are_dropped_first_then_texts_are_cut_and_ids_last() {
        assert_eq!(
            printed(50),
            [
                "RUN               SKILL                     TOKENS",
                "0123456789abcdef  a skill with a long name       7",
            ]
        );
        assert_eq!(printed(40)[1], "0123456789abcdef  a skill with …       7");
        assert_eq!(printed(30)[1], "012…9abcdef  a skill …       7");
    }

    #[test]
    fn no_width_is_too_small() {
        for width in 0..61 {
            assert_eq!(printed(width).len(), 2, "{width}");
        }
    }
}
