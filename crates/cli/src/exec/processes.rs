//! Reads processes from Linux's `/proc`.

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
    /// The start time in ticks since boot. It distinguishes a process from an earlier one with the
    /// same id.
    pub(super) started: u64,
}

impl Process {
    pub(super) fn find(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        // The process name, which comes before the last parenthesis, may contain any character.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        let parent = parse_pid(fields.next()?);
        Some(Self {
            pid,
            // A process that is being reaped has the group -1.
            group: parse_pid(fields.next()?)?,
            parent,
            // A zombie has ended, and only waits to be reaped.
            is_running: !matches!(state, "Z" | "X"),
            started: fields.nth(16)?.parse().ok()?,
        })
    }

    /// Lists all processes; none without a readable `/proc`.
    fn list() -> impl Iterator<Item = Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten();
        let pids = entries.filter_map(|entry| parse_pid(entry.ok()?.file_name().to_str()?));
        pids.filter_map(Self::find)
    }

    /// Returns every process except zombies; `None` without a readable `/proc`.
    fn all() -> Option<Vec<Self>> {
        let running: Vec<_> = Self::list().filter(|process| process.is_running).collect();
        (!running.is_empty()).then_some(running)
    }
}

/// Parses a process id. Returns `None` also for 0 and negative numbers, since `kill` treats those
/// as process groups.
pub(super) fn parse_pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok().filter(|pid| *pid > 0)?)
}

/// The running processes that a program has started directly or indirectly, and the program itself.
pub(super) struct Descendants {
    pub(super) in_group: Vec<Process>,
    /// Processes outside the group, without an ancestor in it that could forward signals.
    pub(super) escaped: Vec<Process>,
    /// Processes outside the group, with an ancestor in it.
    pub(super) elsewhere: Vec<Process>,
}

impl Descendants {
    /// Finds the processes of a program that leads its own group. `other_children` are children of
    /// this process that don't belong to the program.
    ///
    /// Returns `None` without a readable `/proc`.
    pub(super) fn find(group: Pid, other_children: &[Pid]) -> Option<Self> {
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
                if other_children.contains(&child.pid) {
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

/// Makes this process the parent of orphaned descendants, so that it still finds them.
pub(super) fn adopt_orphans() {
    // If this fails, init adopts them, and only their group identifies them.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(getpid()));
}

/// Returns the current children of this process.
pub(super) fn children() -> Vec<Pid> {
    let this_process = Some(getpid());
    let all = Process::all().unwrap_or_default();
    let children = all.iter().filter(|process| process.parent == this_process);
    children.map(|process| process.pid).collect()
}

/// Reaps adopted processes that have ended, but not the program.
pub(super) fn reap_orphans(program: Pid) {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let look = |id| waitid(id, ended | WaitIdOptions::NOWAIT).ok().flatten();
    while look(WaitId::All).is_some() {
        let zombies = Process::list()
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
