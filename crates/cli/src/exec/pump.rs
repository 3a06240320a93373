use std::io::{self, ErrorKind, PipeReader, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::pieces::Splitter;
use super::recorder::Events;

/// How much is read at a time: all that a pipe holds.
const CHUNK: usize = 64 << 10;

/// How long what a program has left behind may go on printing: it could be for ever.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);

/// Makes events of what a program prints, and passes it on, until it has ended and had its last words.
///
/// `running` is a pipe that nobody writes to, and that is closed when the program ends.
///
/// # Errors
///
/// What kept the output from being passed on; it was recorded all the same. That its reader has gone is no error:
/// the program is then told what it would be told without us.
pub(super) fn pump(
    mut from: impl Read + AsFd,
    running: &PipeReader,
    to: impl AsFd,
    events: Option<(&Events, &'static str)>,
) -> io::Result<()> {
    let emit = |payload| {
        if let Some((events, event_type)) = events {
            events.send(event_type, payload);
        }
    };
    let mut lines = Splitter::default();
    let mut chunk = vec![0; CHUNK];
    let mut ended_at = None;
    let mut passing_on = Ok(());
    loop {
        let is_last = ended_at.is_some_and(|at: Instant| at.elapsed() >= LAST_WORDS);
        if !is_readable(&from, running, &mut ended_at)? {
            break;
        }
        let read = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => &chunk[..read],
            Err(err) if err.kind() == ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        lines.push(read, emit);
        if passing_on.is_ok() {
            passing_on = pass_on(read, &to);
        }
        let has_no_reader = passing_on == Err(Errno::PIPE);
        if has_no_reader || is_last {
            break;
        }
    }
    lines.finish(emit);
    match passing_on {
        Err(err) if err != Errno::PIPE => Err(err.into()),
        _ => Ok(()),
    }
}

/// Waits for something to read; false if nothing more is to be expected.
fn is_readable(
    from: &impl AsFd,
    running: &PipeReader,
    ended_at: &mut Option<Instant>,
) -> io::Result<bool> {
    loop {
        let mut waiting_for = [
            PollFd::new(from, PollFlags::IN),
            PollFd::new(running, PollFlags::IN),
        ];
        let polled = match ended_at {
            None => poll(&mut waiting_for, None),
            Some(at) => {
                let left = LAST_WORDS.saturating_sub(at.elapsed());
                poll(
                    &mut waiting_for[..1],
                    Timespec::try_from(left).ok().as_ref(),
                )
            }
        };
        match polled {
            Err(Errno::INTR) => {}
            Err(err) => return Err(err.into()),
            Ok(0) => return Ok(false),
            Ok(_) if !waiting_for[0].revents().is_empty() => return Ok(true),
            Ok(_) => *ended_at = Some(Instant::now()),
        }
    }
}

/// Writes all of it, without a buffer in between, and to a file that doesn't block as well.
fn pass_on(mut bytes: &[u8], to: &impl AsFd) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut writable = [PollFd::new(to, PollFlags::OUT)];
                match poll(&mut writable, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(err) => return Err(err),
                }
            }
            Err(err) => return Err(err),
        }
    }
    Ok(())
}
