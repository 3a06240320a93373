use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use runtrail::Limits;

use super::numbers::Numbers;

/// The most bytes of JSON that a value of the largest size takes, when each of its bytes is an escape.
const LONGEST: usize = 6 * Limits::MAX_VALUE_BYTES + 4096;

/// A reader that fails on a value that is too long to be valid, instead of buffering it in memory, and on a number that
/// can't be stored.
pub(super) struct Bounded<R> {
    reader: R,
    budget: Budget,
    numbers: Numbers,
}

/// How much may still be read; shared by the reader with whoever knows where a value begins.
#[derive(Clone)]
pub(super) struct Budget(Rc<Cell<usize>>);

impl Budget {
    /// Call this at the beginning of each value; returns the length of the previous one.
    pub(super) fn renew(&self) -> usize {
        LONGEST - self.0.replace(LONGEST)
    }
}

impl<R: Read> Bounded<R> {
    pub(super) fn new(reader: R) -> (Self, Budget) {
        let budget = Budget(Rc::new(Cell::new(LONGEST)));
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
        self.numbers.look_at(&buffer[..read])?;
        Ok(read)
    }
}
