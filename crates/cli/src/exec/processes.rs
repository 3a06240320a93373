//! What the system knows about processes: `/proc`, which only Linux has like this.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};

/// A process that has an entry in `/proc`.
#[derive(Clone, Copy)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) group: Pid,
    parent: Option<Pid>,
    pub(super) is_running: bool,
    /// In ticks since the system started: it tells a process from an earlier one with its id.
    pub(super) started: u64,
}

impl Process {
    pub(super) fn find(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        // The name before the parenthesis may contain anything.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some(Self {
            pid,
            group: Pid::from_raw(group)?,
            parent: Pid::from_raw(parent),
            // A zombie has ended, and waits for its parent to notice.
            is_running: !matches!(state, "Z" | "X"),
            started: fields.nth(16)?.parse().ok()?,
        })
    }

    /// Every process but zombies; none where the system can't be asked.
    fn all() -> Option<Vec<Self>> {
        let entries = fs::read_dir("/proc").ok()?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let processes = pids.filter_map(|pid| Self::find(Pid::from_raw(pid)?));
        let running: Vec<_> = processes.filter(|process| process.is_running).collect();
        (!running.is_empty()).then_some(running)
    }
}

/// The processes that a program has started, directly or not, and that are still running.
pub(super) struct Descendants {
    pub(super) in_group: Vec<Process>,
    /// Those that have left the group, with no parent in it that could pass on its signals.
    pub(super) escaped: Vec<Process>,
    /// Those below a member of the group.
    pub(super) elsewhere: Vec<Process>,
}

impl Descendants {
    /// Of a program with a process group of its own. `others` are children of ours that have nothing to do with it.
    ///
    /// None where the system can't be asked.
    pub(super) fn find(group: Pid, others: &[Pid]) -> Option<Self> {
        let processes = Process::all()?;
        let mut children: HashMap<Option<Pid>, Vec<Process>> = HashMap::new();
        for process in &processes {
            children.entry(process.parent).or_default().push(*process);
        }
        let in_group = processes.iter().filter(|process| process.group == group);
        let mut found = Self {
            in_group: in_group.copied().collect(),
            escaped: Vec::new(),
            elsewhere: Vec::new(),
        };
        let mut below = vec![(getpid(), false)];
        while let Some((parent, is_below_group)) = below.pop() {
            for child in children.remove(&Some(parent)).unwrap_or_default() {
                if others.contains(&child.pid) {
                    continue;
                }
                let is_in_group = child.group == group;
                if !is_in_group && is_below_group {
                    found.elsewhere.push(child);
                } else if !is_in_group {
                    found.escaped.push(child);
                }
                below.push((child.pid, is_below_group || is_in_group));
            }
        }
        Some(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_group.is_empty() && self.escaped.is_empty() && self.elsewhere.is_empty()
    }
}

/// Makes this process the parent of those below it whose own parent ends, so that none is lost sight of.
pub(super) fn adopt_orphans() {
    // Where it can't be done they are init's, and found by their group only.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(getpid()));
}

/// Children that were there before the program.
pub(super) fn children() -> Vec<Pid> {
    let us = Some(getpid());
    let all = Process::all().unwrap_or_default();
    let children = all.iter().filter(|process| process.parent == us);
    children.map(|process| process.pid).collect()
}

/// Takes notice of the end of adopted processes, which are zombies until then; not of the program's own.
pub(super) fn reap_orphans(program: Pid) {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let look = |id| waitid(id, ended | WaitIdOptions::NOWAIT).ok().flatten();
    while look(WaitId::All).is_some() {
        let entries = fs::read_dir("/proc").into_iter().flatten();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let zombies = pids
            .filter_map(|pid| Process::find(Pid::from_raw(pid)?))
            .filter(|process| !process.is_running && process.parent == Some(getpid()));
        let mut reaped = 0;
        for zombie in zombies.filter(|zombie| zombie.pid != program) {
            let _ = waitid(WaitId::Pid(zombie.pid), ended);
            reaped += 1;
        }
        if reaped == 0 {
            return;
        }
    }
}
