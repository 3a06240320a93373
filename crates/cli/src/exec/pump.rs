use std::io::{self, ErrorKind, PipeReader, Read};
use std::mem;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::pieces::Lines;
use super::recorder::Events;

/// How much is read at a time: all that a pipe holds.
const CHUNK: usize = 64 << 10;

/// How long what a program has left behind may go on printing: it could be for ever.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a line may stay unfinished before it is recorded as it is, for example a prompt.
const UNFINISHED: Duration = Duration::from_secs(1);

/// Makes events of what a program prints, and passes it on, until it has ended and had its last words.
///
/// `running` is a pipe that nobody writes to, and that is closed when the program ends.
///
/// # Errors
///
/// What kept the output from being passed on; it was recorded all the same. That its reader has gone is no error:
/// the program is then told what it would be told without us.
pub(super) fn pump(
    from: impl Read + AsFd,
    running: &PipeReader,
    to: impl AsFd,
    lines: &mut dyn Lines,
    events: Option<(&Events, &'static str)>,
) -> io::Result<()> {
    let mut emit = |payload| {
        if let Some((events, event_type)) = events {
            events.send(event_type, payload);
        }
    };
    let mut source = Source {
        from,
        running,
        ended_at: None,
        is_over: false,
    };
    let mut chunk = vec![0; CHUNK];
    let mut passed_on = Ok(());
    let read = loop {
        let pause = lines.has_begun().then_some(UNFINISHED);
        let read = match source.read(&mut chunk, pause) {
            Ok(None) => {
                lines.flush(&mut emit);
                continue;
            }
            Ok(Some(0)) => break Ok(()),
            Ok(Some(read)) => &chunk[..read],
            Err(err) => break Err(err),
        };
        lines.push(read, &mut emit);
        if passed_on.is_ok() {
            passed_on = pass_on(read, &to);
        }
        if passed_on == Err(Errno::PIPE) {
            break Ok(());
        }
    };
    lines.finish(&mut emit);
    match passed_on {
        Err(err) if err != Errno::PIPE => Err(err.into()),
        _ => read,
    }
}

/// What a program prints, to its last words.
struct Source<'a, R> {
    from: R,
    running: &'a PipeReader,
    ended_at: Option<Instant>,
    is_over: bool,
}

impl<R: Read + AsFd> Source<'_, R> {
    /// Waits for output and reads it. Returns 0 bytes at the end, and `None` after a pause without output.
    fn read(&mut self, chunk: &mut [u8], pause: Option<Duration>) -> io::Result<Option<usize>> {
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        loop {
            let mut waiting_for = [
                PollFd::new(&self.from, PollFlags::IN),
                PollFd::new(self.running, PollFlags::IN),
            ];
            let polled = match self.ended_at {
                None => poll(&mut waiting_for, pause.as_ref()),
                Some(at) => {
                    let left = LAST_WORDS.saturating_sub(at.elapsed());
                    // What was in the pipe by then is read, but no more: there may always be more.
                    if left.is_zero() && mem::replace(&mut self.is_over, true) {
                        return Ok(Some(0));
                    }
                    poll(
                        &mut waiting_for[..1],
                        Timespec::try_from(left).ok().as_ref(),
                    )
                }
            };
            let is_readable = !waiting_for[0].revents().is_empty();
            match polled {
                Err(Errno::INTR) => {}
                Err(err) => return Err(err.into()),
                Ok(0) => return Ok(self.ended_at.map(|_| 0)),
                Ok(_) if is_readable => match self.from.read(chunk) {
                    Err(err) if is_passing(&err) => {}
                    read => return read.map(Some),
                },
                Ok(_) => self.ended_at = Some(Instant::now()),
            }
        }
    }
}

fn is_passing(err: &io::Error) -> bool {
    matches!(err.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
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
