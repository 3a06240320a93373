use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
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
        let mut signals = SignalsInfo::<WithOrigin>::new(FATAL)?;
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

    pub(super) async fn next(&mut self) -> Option<Received> {
        self.received.recv().await
    }
}
