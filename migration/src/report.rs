//! How a command tells an error.

use std::error::Error;
use std::io;

/// Whether somebody who was reading the results, `head` say, has seen enough.
pub fn is_broken_pipe(err: &(dyn Error + 'static)) -> bool {
    err.downcast_ref::<io::Error>()
        .is_some_and(|err| err.kind() == io::ErrorKind::BrokenPipe)
}

/// The message of an error and those of its causes, in one line, without the ones that SeaORM repeats.
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
        // What is between only repeats the innermost in other words.
        if !text.contains(&innermost) && !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = err.source();
    }
    text
}
