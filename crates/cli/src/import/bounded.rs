use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use runtrail::Limits;

use super::numbers::Numbers;

/// The most bytes of JSON that a valid value can have: each byte of the value may be written
/// as an escape of six bytes.
const MAX_VALUE_JSON_BYTES: usize = 6 * Limits::MAX_VALUE_BYTES + 4096;

/// A reader that fails on a number that can't be stored, and on a value that is too long to be
/// valid. Without the second check, such a value would be buffered in memory.
pub(super) struct Bounded<R> {
    reader: R,
    budget: Budget,
    numbers: Numbers,
}

/// How many bytes of a value may still be read. The reader shares it with the code that knows where
/// a value begins.
#[derive(Clone)]
pub(super) struct Budget(Rc<Cell<usize>>);

impl Budget {
    /// Resets the budget at the beginning of a value. Returns the length of the previous value.
    pub(super) fn reset(&self) -> usize {
        MAX_VALUE_JSON_BYTES - self.0.replace(MAX_VALUE_JSON_BYTES)
    }
}

impl<R: Read> Bounded<R> {
    pub(super) fn new(reader: R) -> (Self, Budget) {
        let budget = Budget(Rc::new(Cell::new(MAX_VALUE_JSON_BYTES)));
        let bounded = Self {
            reader,
            budget: budget.clone(),
            numbers: Numbers::default(),
        };
        (bounded, budget)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.0.get();
        if left == 0 {
            return Err(io::Error::other("a value is too long"));
        }
        let within = buffer.len().min(left);
        let read = self.reader.read(&mut buffer[..within])?;
        self.budget.0.set(left - read);
        self.numbers.check(&buffer[..read])?;
        Ok(read)
    }
}
