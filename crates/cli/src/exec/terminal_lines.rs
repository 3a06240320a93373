//! Turns terminal output into the lines that a terminal shows.

use anstyle_parse::{Params, Parser, Perform};
use serde_json::Value;
use unicode_width::UnicodeWidthChar;

use super::lines::{LineEnd, Lines, payload};

/// The most cells of one event: 16 KiB of four-byte characters. A longer line continues in the next
/// event.
const MAX_CELLS: usize = 4 << 10;

/// The most bytes in one cell: a character and its combining marks.
const MAX_CELL_BYTES: usize = 16;

const TAB_STOP: usize = 8;

/// Splits terminal output into the lines that a person sees, without colours and without
/// overwritten or erased text.
///
/// It only models the line of the cursor. A line is complete when the cursor leaves it, up or down.
#[derive(Default)]
pub(super) struct TerminalLines {
    parser: Parser,
    line: Line,
}

#[derive(Default)]
struct Line {
    /// A wide character occupies two cells; the second is empty.
    cells: Vec<String>,
    cursor: usize,
    /// The number of lines completed so far.
    number: u64,
    /// The line and the column of the saved cursor.
    saved: (u64, usize),
    last: Option<char>,
    /// Whether the VT100 line-drawing characters are selected.
    is_line_drawing: bool,
    /// How many cells have already been emitted.
    emitted: usize,
    /// Whether some of those have changed since.
    is_replaced: bool,
    /// Payloads of events.
    complete: Vec<Value>,
}

impl Lines for TerminalLines {
    fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(Value)) {
        for &byte in bytes {
            self.parser.advance(&mut self.line, byte);
            self.line.complete.drain(..).for_each(&mut *emit);
        }
    }

    fn has_pending(&self) -> bool {
        self.line.is_replaced || self.line.cells.len() > self.line.emitted
    }

    fn flush(&mut self, emit: &mut dyn FnMut(Value)) {
        if self.has_pending() {
            emit(self.line.payload(LineEnd::Unfinished));
            self.line.emitted = self.line.cells.len();
            self.line.is_replaced = false;
        }
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Value)) {
        self.flush(emit);
    }
}

impl Line {
    /// Returns the part of the line that has not been emitted. If emitted text has changed,
    /// returns a carriage return and the whole line.
    fn payload(&self, end: LineEnd) -> Value {
        let text = match self.is_replaced {
            true => format!("\r{}", self.cells.concat()),
            false => self.cells.get(self.emitted..).unwrap_or_default().concat(),
        };
        payload(text.as_bytes(), end)
    }

    fn finish_line(&mut self, end: LineEnd) {
        let payload = self.payload(end);
        self.complete.push(payload);
        self.cells.clear();
        self.emitted = 0;
        self.is_replaced = false;
        self.number += 1;
    }

    /// Completes the line, since the cursor moves to another one.
    fn leave(&mut self) {
        match self.cells.is_empty() {
            true => self.number += 1,
            false => self.finish_line(LineEnd::Newline),
        }
    }

    fn save(&mut self) {
        self.saved = (self.number, self.cursor);
    }

    fn restore(&mut self) {
        let (number, column) = self.saved;
        if number != self.number {
            self.leave();
        }
        self.cursor = column;
    }

    fn move_to(&mut self, column: usize) {
        self.cursor = column.min(MAX_CELLS);
    }

    fn put(&mut self, cell: String) {
        if self.cursor >= MAX_CELLS {
            self.finish_line(LineEnd::Unfinished);
            self.cursor = 0;
        }
        if self.cells.len() <= self.cursor {
            self.cells.resize(self.cursor + 1, " ".to_owned());
        }
        self.is_replaced |= self.cursor < self.emitted && self.cells[self.cursor] != cell;
        self.cells[self.cursor] = cell;
        self.cursor += 1;
    }

    fn combine(&mut self, mark: char) {
        let before = self.cells.iter_mut().take(self.cursor);
        let last = before.rev().find(|cell| !cell.is_empty());
        if let Some(cell) = last
            && cell.len() + mark.len_utf8() <= MAX_CELL_BYTES
        {
            cell.push(mark);
        }
    }

    fn truncate(&mut self, column: usize) {
        self.cells.truncate(column);
        self.is_replaced |= column < self.emitted;
    }

    fn blank(&mut self, from: usize, to: usize) {
        let to = to.min(self.cells.len());
        for cell in self.cells.get_mut(from..to).unwrap_or_default() {
            " ".clone_into(cell);
        }
        self.is_replaced |= from < self.emitted;
    }

    fn insert(&mut self, count: usize) {
        if self.cursor < self.cells.len() {
            let count = count.min(MAX_CELLS - self.cells.len().min(MAX_CELLS));
            let blanks = vec![" ".to_owned(); count];
            self.cells.splice(self.cursor..self.cursor, blanks);
            self.is_replaced |= self.cursor < self.emitted;
        }
    }

    fn delete(&mut self, count: usize) {
        let end = (self.cursor + count).min(self.cells.len());
        if self.cursor < end {
            self.cells.drain(self.cursor..end);
            self.is_replaced |= self.cursor < self.emitted;
        }
    }
}

impl Perform for Line {
    fn print(&mut self, character: char) {
        let character = match self.is_line_drawing {
            true => line_drawing(character),
            false => character,
        };
        self.last = Some(character);
        match character.width() {
            None => {}
            Some(0) => self.combine(character),
            Some(width) => {
                self.put(character.into());
                for _ in 1..width {
                    self.put(String::new());
                }
            }
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' | b'\x0b' | b'\x0c' => self.finish_line(LineEnd::Newline),
            b'\r' => self.cursor = 0,
            b'\x08' => self.cursor = self.cursor.saturating_sub(1),
            b'\t' => self.move_to((self.cursor / TAB_STOP + 1) * TAB_STOP),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if ignore || !intermediates.is_empty() {
            return;
        }
        let mut params = params.iter().map(|param| usize::from(param[0]));
        let first = params.next().unwrap_or(0);
        let count = first.max(1);
        match action {
            b'K' | b'J' => match first {
                0 => self.truncate(self.cursor),
                1 => self.blank(0, self.cursor + 1),
                _ => self.truncate(0),
            },
            b'C' | b'a' => self.move_to(self.cursor + count),
            b'D' => self.cursor = self.cursor.saturating_sub(count),
            b'G' | b'`' => self.move_to(count - 1),
            b'A' | b'B' | b'd' => self.leave(),
            b'E' | b'F' => {
                self.leave();
                self.cursor = 0;
            }
            b'H' | b'f' => {
                self.leave();
                self.move_to(params.next().unwrap_or(1).max(1) - 1);
            }
            b'b' => {
                for character in self.last.into_iter().cycle().take(count.min(MAX_CELLS)) {
                    self.print(character);
                }
            }
            b's' => self.save(),
            b'u' => self.restore(),
            b'@' => self.insert(count),
            b'P' => self.delete(count),
            b'X' => self.blank(self.cursor, self.cursor + count),
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, byte: u8) {
        match (intermediates, byte) {
            (b"(", _) => self.is_line_drawing = byte == b'0',
            (b"", b'7') => self.save(),
            (b"", b'8') => self.restore(),
            (b"", b'D') => self.finish_line(LineEnd::Newline),
            (b"", b'E') => {
                self.finish_line(LineEnd::Newline);
                self.cursor = 0;
            }
            _ => {}
        }
    }
}

/// Maps a character to the VT100 line-drawing set.
fn line_drawing(character: char) -> char {
    const FROM_BACKTICK: [char; 31] = [
        '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─',
        '⎼', '⎽', '├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
    ];
    let index = u32::from(character).checked_sub(u32::from('`'));
    let drawn = index.and_then(|index| FROM_BACKTICK.get(index as usize));
    drawn.copied().unwrap_or(character)
}
