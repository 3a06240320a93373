//! Refuses numbers that an import would change.

use std::io;

/// Checks the numbers of a JSON text as it is read, since serde_json changes those that it can't
/// represent.
#[derive(Default)]
pub(super) struct Numbers {
    column: u64,
    is_in_string: bool,
    is_escaped: bool,
    number: Vec<u8>,
}

/// Longer numbers are refused, so that memory stays bounded.
const MAX_DIGITS: usize = 4096;

impl Numbers {
    pub(super) fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        for &byte in bytes {
            self.column += 1;
            if self.is_in_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.is_in_string = false,
                    _ => {}
                }
                continue;
            }
            let is_part = match byte {
                b'0'..=b'9' | b'-' => true,
                b'+' | b'.' | b'e' | b'E' => !self.number.is_empty(),
                _ => false,
            };
            if is_part {
                if self.number.len() == MAX_DIGITS {
                    return Err(self.refusal(format!("has more than {MAX_DIGITS} digits")));
                }
                self.number.push(byte);
                continue;
            }
            if !self.number.is_empty() {
                if let Some(reason) = rejection_reason(&self.number) {
                    return Err(self.refusal(reason.to_owned()));
                }
                self.number.clear();
            }
            self.is_in_string = byte == b'"';
        }
        Ok(())
    }

    fn refusal(&self, reason: String) -> io::Error {
        const SHOWN: usize = 40;

        let shown = String::from_utf8_lossy(&self.number[..self.number.len().min(SHOWN)]);
        let more = if self.number.len() > SHOWN { "…" } else { "" };
        let column = self.column.saturating_sub(self.number.len() as u64);
        io::Error::other(format!(
            "the number {shown}{more} {reason}, column {column}"
        ))
    }
}

/// Returns why a number can't be stored; `None` also for invalid syntax, which serde_json refuses.
fn rejection_reason(number: &[u8]) -> Option<&'static str> {
    let text = str::from_utf8(number).ok()?;
    let float: f64 = text.parse().ok()?;
    let is_whole = !number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    if is_whole {
        let fits = text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok();
        return (!fits).then_some("has more than 64 bits and can't be stored exactly");
    }
    if float.is_infinite() {
        return Some("is too large to be stored");
    }
    let mantissa = number.split(|byte| matches!(byte, b'e' | b'E')).next()?;
    let is_zero = !mantissa.iter().any(|byte| matches!(byte, b'1'..=b'9'));
    (float == 0.0 && !is_zero).then_some("is too small and would be stored as 0")
}
