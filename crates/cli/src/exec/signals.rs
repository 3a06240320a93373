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

/// Signals that are handled although they aren't fatal: a child has ended or stopped; this process
/// has been continued; the terminal has another size.
const ALSO_HANDLED: [Signal; 3] = [Signal::CHILD, Signal::CONT, Signal::WINCH];

/// How long after the program's end a signal to this process counts as the cause of that end. `^C`
/// and `timeout` signal both processes, and the program may end before this process receives its
/// signal.
pub(super) const SAME_CAUSE_WINDOW: Duration = Duration::from_secs(1);

/// Receives the signals that would otherwise end this process.
pub(super) struct Signals {
    received: mpsc::UnboundedReceiver<Received>,
    put_back: Option<Received>,
}

#[derive(Clone, Copy)]
pub(super) struct Received {
    pub(super) signal: Signal,
    /// Whether a terminal sent it, for example on ^C. Then the whole foreground group has received
    /// it.
    pub(super) is_from_terminal: bool,
}

impl Received {
    /// Whether the signal would have ended this process.
    pub(super) fn is_fatal(self) -> bool {
        is_fatal(self.signal)
    }
}

impl Signals {
    /// Catches every signal that would end this process and leave a run unfinished.
    ///
    /// The program inherits each signal's original disposition: execve(2) resets handlers to the
    /// default, and signals that were ignored, for example because of `nohup`, stay ignored. Only
    /// SIGPIPE always has its default action in the program, since Rust's runtime overwrites its
    /// original disposition before `main`.
    pub(super) fn catch() -> io::Result<Self> {
        let ignored = ignored_signals();
        let is_handled = |signal: &Signal| {
            // Needed even if this process was started with SIGCHLD ignored, to learn when a child
            // ends.
            let is_always_handled = matches!(*signal, Signal::CHILD | Signal::PIPE);
            is_always_handled || ignored & (1 << (signal.as_raw() - 1)) == 0
        };
        let handled = catchable()
            .filter(|&signal| is_fatal(signal) || ALSO_HANDLED.contains(&signal))
            .filter(is_handled);
        let mut signals = SignalsInfo::<WithOrigin>::new(handled.map(Signal::as_raw))?;
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

    /// Returns the first signal received so far that would have ended this process.
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

    /// Waits for the next signal that would have ended this process.
    pub(super) async fn next_fatal(&mut self) -> Received {
        loop {
            let received = self.next().await;
            if received.is_fatal() {
                return received;
            }
        }
    }

    /// Makes the next call of [`next`](Self::next) return this signal again.
    pub(super) fn put_back(&mut self, received: Received) {
        self.put_back = Some(received);
    }
}

fn receive(origin: Origin) -> Option<Received> {
    // Ignore a signal that this process caused itself, by a write to a closed pipe or beyond the
    // file size limit. That write fails with an error, which is reported anyway.
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

/// A terminal that hangs up sends SIGHUP only to the leader of its session.
fn is_session_leader() -> bool {
    getsid(None).is_ok_and(|session| session == getpid())
}

/// Returns all signals that can be caught.
///
/// SIGSEGV, SIGBUS, SIGILL and SIGFPE are left out: a handler that returns to the faulty
/// instruction would be called forever.
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

/// Converts a signal number, including those of real-time signals.
#[cfg(target_os = "linux")]
fn from_raw(number: i32) -> Option<Signal> {
    use rustix_libc_wrappers::process::SignalExt;

    Signal::from_raw(number)
}

#[cfg(not(target_os = "linux"))]
fn from_raw(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number)
}

/// Returns the signals that were ignored when this process started, as a bit mask; 0 if `/proc`
/// can't be read.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
