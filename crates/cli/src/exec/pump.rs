use std::io::{self, ErrorKind, PipeReader, Read};
use std::mem;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::lines::Lines;
use super::recorder::Events;

/// The most bytes of one read: the capacity of a pipe.
const CHUNK_BYTES: usize = 64 << 10;

/// How long to read the output of processes that a program has left behind. They may never end.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a line, for example a prompt, may stay unfinished before it is recorded.
const UNFINISHED_LINE_TIMEOUT: Duration = Duration::from_secs(1);

/// Passes on a program's output and turns it into events, until [`DRAIN_TIMEOUT`] after the
/// program's end.
///
/// `running` is a pipe without data, whose other end is closed when the program ends.
///
/// # Errors
///
/// If the output can't be passed on; it is still recorded. A reader that has gone is no error:
/// reading stops, and the program gets SIGPIPE, as it would without `runtrail`.
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
    let mut output = OutputReader {
        from,
        running,
        ended_at: None,
        is_last_read: false,
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut passed_on = Ok(());
    let read = loop {
        let pause = lines.has_pending().then_some(UNFINISHED_LINE_TIMEOUT);
        let read = match output.read(&mut chunk, pause) {
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
            passed_on = write_all(read, &to);
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

/// Reads a program's output, until [`DRAIN_TIMEOUT`] after the program's end.
struct OutputReader<'a, R> {
    from: R,
    running: &'a PipeReader,
    ended_at: Option<Instant>,
    is_last_read: bool,
}

impl<R: Read + AsFd> OutputReader<'_, R> {
    /// Waits for output and reads it. Returns 0 at the end, and `None` after a pause without
    /// output.
    fn read(&mut self, chunk: &mut [u8], pause: Option<Duration>) -> io::Result<Option<usize>> {
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        loop {
            let mut polled_files = [
                PollFd::new(&self.from, PollFlags::IN),
                PollFd::new(self.running, PollFlags::IN),
            ];
            let polled = match self.ended_at {
                None => poll(&mut polled_files, pause.as_ref()),
                Some(at) => {
                    let left = DRAIN_TIMEOUT.saturating_sub(at.elapsed());
                    // After the timeout, read once more what is in the pipe, and then stop: the
                    // output may never end.
                    if left.is_zero() && mem::replace(&mut self.is_last_read, true) {
                        return Ok(Some(0));
                    }
                    poll(
                        &mut polled_files[..1],
                        Timespec::try_from(left).ok().as_ref(),
                    )
                }
            };
            let is_readable = !polled_files[0].revents().is_empty();
            match polled {
                Err(Errno::INTR) => {}
                Err(err) => return Err(err.into()),
                Ok(0) => return Ok(self.ended_at.map(|_| 0)),
                Ok(_) if is_readable => match self.from.read(chunk) {
                    Err(err) if is_transient(&err) => {}
                    read => return read.map(Some),
                },
                Ok(_) => self.ended_at = Some(Instant::now()),
            }
        }
    }
}

fn is_transient(err: &io::Error) -> bool {
    matches!(err.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

/// Writes all bytes, unbuffered. Also works with a nonblocking file.
fn write_all(mut bytes: &[u8], to: &impl AsFd) -> Result<(), Errno> {
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
