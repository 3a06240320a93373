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

/// How often to look for remaining processes of a program.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often to check the terminal of a stopped program.
const LOOK_AT_TERMINAL: Duration = Duration::from_millis(100);

/// How long to wait for killed processes to disappear: the system may be busy.
const KILLED: Duration = Duration::from_secs(1);

/// A running program, and the processes that get its signals.
pub(super) struct Target {
    pub(super) program: Pid,
    /// Whether the program is stopped because it needs a terminal that another group has.
    needs_terminal: bool,
    group: Group,
    /// Our children from before the program.
    others: Vec<Pid>,
    /// Processes that have left the group and already got SIGTERM.
    asked_to_end: Vec<Pid>,
}

/// The process group of a program.
///
/// Its own, so that signals reach every process that it starts. But only the foreground group may read from a terminal:
/// if that group is ours, the program shares it, and only the program gets signals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Ours,
    Own,
    /// Its own, in a session with a terminal of its own.
    OwnTerminal,
}

impl Target {
    /// `pts` is the program's own terminal, if it has one.
    pub(super) fn spawn(mut command: Command, pts: Option<Pts>) -> io::Result<(Child, Self)> {
        let group = match pts {
            Some(_) => Group::OwnTerminal,
            None if terminal::is_ours() => Group::Ours,
            None => Group::Own,
        };
        let others = children();
        let child = match pts {
            Some(pts) => pseudo_terminal::spawn(command, pts)?,
            None if group == Group::Own => command.process_group(0).spawn()?,
            None => command.spawn()?,
        };
        let target = Self {
            program: Pid::from_child(&child),
            group,
            needs_terminal: false,
            others,
            asked_to_end: Vec::new(),
        };
        Ok((child, target))
    }

    /// Passes on a signal that was sent to us; false if the program has had it anyway.
    pub(super) fn pass_on(&self, received: Received, is_running: bool) -> bool {
        let is_shared = self.group == Group::Ours && received.is_from_terminal;
        if !is_shared {
            self.send(received.signal, is_running);
        }
        !is_shared
    }

    /// Also sends SIGCONT, since a stopped process must continue before it can end.
    fn send(&self, signal: Signal, is_running: bool) {
        self.send_one(signal, is_running);
        self.send_one(Signal::CONT, is_running);
    }

    fn send_one(&self, signal: Signal, is_running: bool) {
        // An error means that it has ended meanwhile.
        let _ = match self.group {
            Group::Own | Group::OwnTerminal => kill_process_group(self.program, signal),
            Group::Ours if is_running => kill_process(self.program, signal),
            Group::Ours => Ok(()),
        };
    }

    /// Checks whether the program has stopped, and why.
    ///
    /// A background program stops when it reads from the terminal, and continues once we are in the foreground. If the
    /// program has the terminal and stops because of ^Z, we stop as well, so that the shell gets the terminal.
    pub(super) fn notice_stop(&mut self) {
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let Ok(Some(status)) = waitid(WaitId::Pid(self.program), stopped) else {
            return;
        };
        let by = status.stopping_signal().and_then(Signal::from_named_raw);
        match by {
            _ if self.group != Group::Own => {}
            Some(Signal::TTIN | Signal::TTOU) => self.needs_terminal = true,
            Some(Signal::TSTP) if terminal::is_of(self.program) => {
                let _ = kill_process_group(getpgrp(), Signal::TSTP);
            }
            _ => {}
        }
    }

    /// Waits until the terminal is ours, if the program needs it.
    pub(super) async fn can_have_the_terminal(&self) {
        if !self.needs_terminal {
            return std::future::pending().await;
        }
        while !terminal::is_ours() {
            sleep(LOOK_AT_TERMINAL).await;
        }
    }

    /// Continues the program, in the foreground if the terminal is ours.
    pub(super) fn go_on(&mut self, is_running: bool) {
        if is_running && self.group == Group::Own && terminal::is_ours() {
            terminal::hand_over(self.program);
            self.needs_terminal = false;
        }
        self.send_one(Signal::CONT, is_running);
    }

    /// Sends SIGTERM to the program. [`terminate_escaped`](Self::terminate_escaped) has to follow until it has ended.
    pub(super) fn terminate(&self, is_running: bool) {
        self.send(Signal::TERM, is_running);
    }

    /// Sends SIGTERM, once, to each process that has left the group and has no ancestor in it.
    ///
    /// While an ancestor is dying of its own SIGTERM, its descendants still count as its: look again.
    pub(super) fn terminate_escaped(&mut self) {
        let escaped = self.descendants().map(|found| found.escaped);
        for process in escaped.into_iter().flatten() {
            if !self.asked_to_end.contains(&process.pid) {
                self.asked_to_end.push(process.pid);
                let _ = kill_process(process.pid, Signal::TERM);
                let _ = kill_process(process.pid, Signal::CONT);
            }
        }
    }

    /// Kills the program and everything that it has started.
    pub(super) fn kill(&self, is_running: bool) {
        self.send(Signal::KILL, is_running);
        if let Some(descendants) = self.descendants() {
            for process in descendants.escaped.iter().chain(&descendants.elsewhere) {
                let _ = kill_process(process.pid, Signal::KILL);
            }
        }
    }

    /// Waits for what the program has started to end as well, and kills what is left at the deadline.
    pub(super) async fn see_off(mut self, mut deadline: Pin<&mut Sleep>) {
        if self.group == Group::Ours {
            return;
        }
        tokio::select! {
            () = self.gone() => return,
            () = &mut deadline => {}
        }
        let killed = async {
            while self.is_there() {
                self.kill(false);
                sleep(LOOK_AGAIN).await;
            }
        };
        let _ = tokio::time::timeout(KILLED, killed).await;
    }

    async fn gone(&mut self) {
        while self.is_there() {
            self.terminate_escaped();
            sleep(LOOK_AGAIN).await;
        }
    }

    fn is_there(&self) -> bool {
        reap_orphans(self.program);
        match self.descendants() {
            Some(descendants) => !descendants.is_empty(),
            None => test_kill_process_group(self.program).is_ok(),
        }
    }

    fn descendants(&self) -> Option<Descendants> {
        let has_any = self.group != Group::Ours;
        has_any.then(|| Descendants::find(self.program, &self.others))?
    }
}
