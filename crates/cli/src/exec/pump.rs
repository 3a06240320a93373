use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::pieces::Splitter;
use super::recorder::Events;

/// How much is read at a time.
const CHUNK: usize = 64 << 10;

/// After the program's end, how long its output may pause before nothing more is expected of it: a process that
/// it has left behind can keep the pipe open for ever.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Passes on what a program prints, and makes events of it, until it has ended and has no more to say.
///
/// `running` is a pipe that nobody writes to, and that is closed when the program ends.
pub(super) fn pump(
    mut from: impl Read + AsFd,
    running: &PipeReader,
    mut to: impl Write,
    events: Option<(&Events, &'static str)>,
) {
    let emit = |payload| {
        if let Some((events, event_type)) = events {
            events.send(event_type, payload);
        }
    };
    let mut lines = Splitter::default();
    let mut chunk = vec![0; CHUNK];
    let mut is_running = true;
    while let Ok(true) = wait(&from, running, &mut is_running) {
        let read = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => &chunk[..read],
            Err(err) if err.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let passed_on = to.write_all(read).and_then(|()| to.flush());
        lines.push(read, emit);
        if passed_on.is_err() {
            // Nobody reads us any more. Closing the pipe tells the program what it would be told without us.
            break;
        }
    }
    lines.finish(emit);
}

/// Waits for something to read; false if nothing more is to be expected.
fn wait(from: &impl AsFd, running: &PipeReader, is_running: &mut bool) -> io::Result<bool> {
    loop {
        let mut waiting_for = [
            PollFd::new(from, PollFlags::IN),
            PollFd::new(running, PollFlags::IN),
        ];
        let polled = if *is_running {
            poll(&mut waiting_for, None)
        } else {
            let last_words = Timespec::try_from(LAST_WORDS).ok();
            poll(&mut waiting_for[..1], last_words.as_ref())
        };
        match polled {
            Err(err) if io::Error::from(err).kind() == ErrorKind::Interrupted => {}
            Err(err) => return Err(err.into()),
            Ok(0) => return Ok(false),
            Ok(_) if !waiting_for[0].revents().is_empty() => return Ok(true),
            Ok(_) => *is_running = false,
        }
    }
}
