use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, getsid};
use signal_hook::consts::FORBIDDEN;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use tokio::sync::mpsc;

/// Signals whose default action is not to end the process.
const NOT_FATAL: [Signal; 7] = [
    Signal::CHILD,
    Signal::CONT,
    Signal::URG,
    Signal::WINCH,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
];

/// Those that we handle anyway: a child has ended or stopped; this process continues; the terminal has another size.
const NEEDED: [Signal; 3] = [Signal::CHILD, Signal::CONT, Signal::WINCH];

/// How long after the program's end a signal to us counts as what has ended the program: `^C` and `timeout` signal both
/// of us, and the program may be gone before we receive ours.
pub(super) const SAME_CAUSE: Duration = Duration::from_secs(1);

/// Receives the signals that would otherwise end this process.
pub(super) struct Signals {
    received: mpsc::UnboundedReceiver<Received>,
    put_back: Option<Received>,
}

#[derive(Clone, Copy)]
pub(super) struct Received {
    pub(super) signal: Signal,
    /// A terminal sends ^C to every process of its foreground group at once.
    pub(super) is_from_terminal: bool,
}

impl Received {
    /// Whether it would have ended this process.
    pub(super) fn is_fatal(self) -> bool {
        is_fatal(self.signal)
    }
}

impl Signals {
    /// Catches every signal that would end this process and leave a run unfinished.
    ///
    /// The program gets each signal's original disposition: `exec` resets handlers to the default, and signals that
    /// were ignored, for example by `nohup`, stay ignored. (Only SIGPIPE always has its default action in the program:
    /// Rust's runtime overwrites its original disposition before `main`.)
    pub(super) fn catch() -> io::Result<Self> {
        let ignored = ignored_signals();
        let is_heeded = |signal: &Signal| {
            // We need to know when a child ends, even if we were started with SIGCHLD ignored.
            let is_always_heeded = matches!(*signal, Signal::CHILD | Signal::PIPE);
            is_always_heeded || ignored & (1 << (signal.as_raw() - 1)) == 0
        };
        let heeded = catchable()
            .filter(|&signal| is_fatal(signal) || NEEDED.contains(&signal))
            .filter(is_heeded);
        let mut signals = SignalsInfo::<WithOrigin>::new(heeded.map(Signal::as_raw))?;
        let (sender, received) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for received in signals.forever().filter_map(receive) {
                    if sender.send(received).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            received,
            put_back: None,
        })
    }

    /// The first signal so far that would have ended this process.
    pub(super) fn pending_fatal(&mut self) -> Option<Signal> {
        let mut pending = || {
            self.put_back
                .take()
                .or_else(|| self.received.try_recv().ok())
        };
        loop {
            match pending()? {
                received if received.is_fatal() => return Some(received.signal),
                _ => {}
            }
        }
    }

    pub(super) async fn next(&mut self) -> Received {
        match self.put_back.take() {
            Some(received) => received,
            None => match self.received.recv().await {
                Some(received) => received,
                None => std::future::pending().await,
            },
        }
    }

    /// The next signal that would have ended this process.
    pub(super) async fn next_fatal(&mut self) -> Received {
        loop {
            let received = self.next().await;
            if received.is_fatal() {
                return received;
            }
        }
    }

    /// Makes the next call return this signal again.
    pub(super) fn put_back(&mut self, received: Received) {
        self.put_back = Some(received);
    }
}

fn receive(origin: Origin) -> Option<Received> {
    // A write to a closed pipe, or beyond the file size limit, fails with an error that is reported anyway. The
    // signal of such a write has our own process as its sender.
    let is_our_own = origin
        .process
        .is_some_and(|process| process.pid == getpid().as_raw_nonzero().get());
    let signal = from_raw(origin.signal).filter(|_| !is_our_own)?;
    Some(Received {
        signal,
        is_from_terminal: matches!(origin.cause, Cause::Kernel)
            && match signal {
                Signal::INT | Signal::QUIT => true,
                Signal::HUP => !is_session_leader(),
                _ => false,
            },
    })
}

/// A terminal that hangs up sends SIGHUP to the leader of its session alone.
fn is_session_leader() -> bool {
    getsid(None).is_ok_and(|session| session == getpid())
}

/// All signals that can be caught.
///
/// SIGSEGV, SIGBUS, SIGILL and SIGFPE are left out: a handler that returns to the faulty instruction would be called
/// forever.
fn catchable() -> impl Iterator<Item = Signal> {
    (1..=64)
        .filter_map(from_raw)
        .filter(|signal| *signal != Signal::BUS && !FORBIDDEN.contains(&signal.as_raw()))
}

fn is_fatal(signal: Signal) -> bool {
    // On Linux SIGIO and SIGPWR are fatal as well.
    let is_fatal_on_linux_only = !cfg!(target_os = "linux") && signal == Signal::IO;
    !NOT_FATAL.contains(&signal) && !is_fatal_on_linux_only
}

/// Includes real-time signals.
#[cfg(target_os = "linux")]
fn from_raw(number: i32) -> Option<Signal> {
    use rustix_libc_wrappers::process::SignalExt;

    Signal::from_raw(number)
}

#[cfg(not(target_os = "linux"))]
fn from_raw(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number)
}

/// The signals that we were started to ignore, a bit for each; none where the system can't be asked.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
