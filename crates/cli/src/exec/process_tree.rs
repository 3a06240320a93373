use std::io;
use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::process::{Child, Command};
use std::time::Duration;

use pty_process::blocking::Pts;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgrp, kill_process, kill_process_group,
    test_kill_process_group, waitid,
};
use tokio::time::{Sleep, sleep};

use super::processes::{Descendants, children, reap_orphans};
use super::signals::Received;
use super::{pseudo_terminal, terminal};

/// How often to check for remaining processes of a program.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The longest interval, for checks whose interval doubles each time.
pub(super) const MAX_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often to check whether a stopped program can have the terminal.
const TERMINAL_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long to wait for killed processes to disappear.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// A running program, and the processes that get its signals.
pub(super) struct ProcessTree {
    pub(super) program: Pid,
    /// Whether the program is stopped because it needs the terminal while another group is in the
    /// foreground.
    needs_terminal: bool,
    group: Group,
    /// Children that this process had before it started the program.
    other_children: Vec<Pid>,
    /// Processes, with their start times, that have left the group and have received SIGTERM.
    terminated: Vec<(Pid, u64)>,
}

/// The process group of a program.
///
/// Normally the program has its own group, so that signals reach every process that it starts. But
/// only the foreground group may read from a terminal: if this process is in the foreground, the
/// program shares its group, and only the program gets signals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Shared,
    Own,
    /// Its own group, in its own session with its own terminal.
    OwnTerminal,
}

impl ProcessTree {
    /// Starts the program. `pts` is its own terminal, if it has one.
    pub(super) fn spawn(mut command: Command, pts: Option<Pts>) -> io::Result<(Child, Self)> {
        let group = match pts {
            Some(_) => Group::OwnTerminal,
            None if terminal::is_foreground() => Group::Shared,
            None => Group::Own,
        };
        let other_children = children();
        let child = match pts {
            Some(pts) => pseudo_terminal::spawn(command, pts)?,
            None if group == Group::Own => command.process_group(0).spawn()?,
            None => command.spawn()?,
        };
        let tree = Self {
            program: Pid::from_child(&child),
            group,
            needs_terminal: false,
            other_children,
            terminated: Vec::new(),
        };
        Ok((child, tree))
    }

    /// Forwards a signal to the program. Returns false if the program has already received it from
    /// the terminal.
    pub(super) fn forward(&self, received: Received, is_running: bool) -> bool {
        let is_shared = self.group == Group::Shared && received.is_from_terminal;
        if !is_shared {
            self.send(received.signal, is_running);
        }
        !is_shared
    }

    /// Sends a signal and then SIGCONT, since a stopped process must continue before it can end.
    fn send(&self, signal: Signal, is_running: bool) {
        self.send_one(signal, is_running);
        self.send_one(Signal::CONT, is_running);
    }

    fn send_one(&self, signal: Signal, is_running: bool) {
        // An error means that the program has ended.
        let _ = match self.group {
            Group::Own | Group::OwnTerminal => kill_process_group(self.program, signal),
            Group::Shared if is_running => kill_process(self.program, signal),
            Group::Shared => Ok(()),
        };
    }

    /// Checks whether the program has stopped, and why.
    ///
    /// A background program stops when it reads from the terminal, and continues once this process
    /// is in the foreground. If the program has the terminal and stops because of ^Z, this process
    /// stops as well, so that the shell gets the terminal.
    pub(super) fn check_stopped(&mut self) {
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let Ok(Some(status)) = waitid(WaitId::Pid(self.program), stopped) else {
            return;
        };
        let by = status.stopping_signal().and_then(Signal::from_named_raw);
        match by {
            _ if self.group != Group::Own => {}
            Some(Signal::TTIN | Signal::TTOU) => self.needs_terminal = true,
            Some(Signal::TSTP) if terminal::is_foreground_group(self.program) => {
                let _ = kill_process_group(getpgrp(), Signal::TSTP);
            }
            _ => {}
        }
    }

    /// If the program needs the terminal, waits until this process is in the foreground; otherwise
    /// waits forever.
    pub(super) async fn terminal_available(&self) {
        if !self.needs_terminal {
            return std::future::pending().await;
        }
        while !terminal::is_foreground() {
            sleep(TERMINAL_POLL_INTERVAL).await;
        }
    }

    /// Continues the program. Moves it to the foreground if this process is there.
    pub(super) fn resume(&mut self, is_running: bool) {
        if is_running && self.group == Group::Own && terminal::is_foreground() {
            terminal::set_foreground(self.program);
            self.needs_terminal = false;
        }
        self.send_one(Signal::CONT, is_running);
    }

    /// Sends SIGTERM to the program. The caller must then call
    /// [`terminate_escaped`](Self::terminate_escaped) until the program has ended.
    pub(super) fn terminate(&self, is_running: bool) {
        self.send(Signal::TERM, is_running);
    }

    /// Sends SIGTERM, once, to each process that has left the group and has no ancestor in it.
    ///
    /// It must be called repeatedly: while an ancestor in the group is still dying, its descendants
    /// are not signalled.
    pub(super) fn terminate_escaped(&mut self) {
        let escaped = self.descendants().map(|found| found.escaped);
        for process in escaped.into_iter().flatten() {
            let identity = (process.pid, process.started);
            if !self.terminated.contains(&identity) {
                self.terminated.push(identity);
                let _ = kill_process(process.pid, Signal::TERM);
                let _ = kill_process(process.pid, Signal::CONT);
            }
        }
    }

    /// Kills the program and every process that it has started.
    pub(super) fn kill(&self, is_running: bool) {
        self.send(Signal::KILL, is_running);
        if let Some(descendants) = self.descendants() {
            for process in descendants.escaped.iter().chain(&descendants.elsewhere) {
                let _ = kill_process(process.pid, Signal::KILL);
            }
        }
    }

    /// Waits until every process that the program has started has ended, and kills the rest at the
    /// deadline.
    pub(super) async fn wait_for_end(mut self, mut deadline: Pin<&mut Sleep>) {
        if self.group == Group::Shared {
            return;
        }
        tokio::select! {
            () = self.all_ended() => return,
            () = &mut deadline => {}
        }
        let kill_all = async {
            while self.is_any_running() {
                self.kill(false);
                sleep(POLL_INTERVAL).await;
            }
        };
        let _ = tokio::time::timeout(KILL_TIMEOUT, kill_all).await;
    }

    async fn all_ended(&mut self) {
        while self.is_any_running() {
            self.terminate_escaped();
            sleep(POLL_INTERVAL).await;
        }
    }

    fn is_any_running(&self) -> bool {
        reap_orphans(self.program);
        match self.descendants() {
            Some(descendants) => !descendants.is_empty(),
            None => test_kill_process_group(self.program).is_ok(),
        }
    }

    fn descendants(&self) -> Option<Descendants> {
        let has_any = self.group != Group::Shared;
        has_any.then(|| Descendants::find(self.program, &self.other_children))?
    }
}
