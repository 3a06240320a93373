use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, getpgrp, kill_process, kill_process_group, test_kill_process_group,
};
use rustix::termios::tcgetpgrp;
use tokio::time::{Sleep, sleep};

use super::signals::Received;

/// Who gets the signals.
///
/// The program has a process group of its own, so that they reach whatever it starts. But only the foreground
/// group may read from a terminal, and where that is ours, the program shares it and gets them alone.
#[derive(Clone, Copy)]
pub(super) enum Target {
    Group(Pid),
    Process(Pid),
}

impl Target {
    pub(super) fn spawn(command: &mut Command) -> io::Result<(Child, Self)> {
        if is_in_foreground() {
            let child = command.spawn()?;
            let process = Self::Process(Pid::from_child(&child));
            return Ok((child, process));
        }
        let child = command.process_group(0).spawn()?;
        let group = Self::Group(Pid::from_child(&child));
        Ok((child, group))
    }

    /// Passes on a signal that was sent to us; false if the program has had it anyway.
    pub(super) fn pass_on(self, received: Received, is_running: bool) -> bool {
        let is_shared = matches!(self, Self::Process(_)) && received.is_from_terminal;
        if let Some(signal) = Signal::from_named_raw(received.number)
            && !is_shared
        {
            self.send(signal, is_running);
            return true;
        }
        false
    }

    pub(super) fn send(self, signal: Signal, is_running: bool) {
        // An error means that it has ended meanwhile.
        let _ = match self {
            Self::Group(group) => kill_process_group(group, signal),
            Self::Process(process) if is_running => kill_process(process, signal),
            Self::Process(_) => Ok(()),
        };
    }

    /// Waits for what the program has started to end as well, and kills what is left at the deadline.
    pub(super) async fn see_off(self, deadline: Pin<&mut Sleep>) {
        let Self::Group(group) = self else { return };
        let gone = async {
            while test_kill_process_group(group).is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = gone => {}
            () = deadline => self.send(Signal::KILL, false),
        }
    }
}

/// Whether we may read from the terminal, if there is one.
fn is_in_foreground() -> bool {
    File::open("/dev/tty")
        .is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp()))
}
