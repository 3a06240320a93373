use std::fs;
use std::io;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;
use tokio::sync::mpsc;

/// The signals that would end us, and leave a run unfinished.
const FATAL: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// What we are sent, instead of ending us.
pub(super) struct Signals {
    received: mpsc::UnboundedReceiver<Received>,
}

#[derive(Clone, Copy)]
pub(super) struct Received {
    pub(super) number: i32,
    /// A terminal sends ^C to every process of its foreground group at once.
    pub(super) is_from_terminal: bool,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        // Whoever has started us may ignore it, and then nobody is told how a program ended.
        flag::register(SIGCHLD, Arc::default())?;
        // What is ignored, as `nohup` does it, goes on being ignored, by the program too.
        let ignored = ignored_signals();
        let is_heeded = |signal: &i32| ignored & (1 << (signal - 1)) == 0;
        let heeded: Vec<i32> = FATAL.into_iter().filter(is_heeded).collect();
        let mut signals = SignalsInfo::<WithOrigin>::new(heeded)?;
        let (sender, received) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for origin in signals.forever() {
                    let signal = Received {
                        number: origin.signal,
                        is_from_terminal: matches!(origin.cause, Cause::Kernel),
                    };
                    if sender.send(signal).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { received })
    }

    /// What has come already.
    pub(super) fn pending(&mut self) -> Option<Received> {
        self.received.try_recv().ok()
    }

    pub(super) async fn next(&mut self) -> Option<Received> {
        self.received.recv().await
    }
}

/// The signals that we were started to ignore, a bit for each; none where the system can't be asked.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
