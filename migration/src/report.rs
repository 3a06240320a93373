//! Formats the errors of a command.

use std::error::Error;
use std::io;

/// Returns whether the reader of the output, such as `head`, has closed the pipe.
pub fn is_broken_pipe(err: &(dyn Error + 'static)) -> bool {
    err.downcast_ref::<io::Error>()
        .is_some_and(|err| err.kind() == io::ErrorKind::BrokenPipe)
}

/// Returns the messages of an error and its causes on one line, without SeaORM's repetitions.
pub fn with_causes(err: &dyn Error) -> String {
    let mut innermost = err;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    let innermost = innermost.to_string();
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        let message = err.to_string();
        // Errors in between only repeat the innermost one in other words.
        if !text.contains(&innermost) && !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = err.source();
    }
    text
}
