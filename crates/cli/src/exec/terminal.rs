//! The controlling terminal of this process, if it has one, and the process group in its
//! foreground.

use std::fs::File;

use rustix::process::{Pid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// Whether the process group of this process is in the foreground.
pub(super) fn is_foreground() -> bool {
    open().is_some_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

/// Whether a process group is in the foreground.
pub(super) fn is_foreground_group(group: Pid) -> bool {
    open().is_some_and(|terminal| tcgetpgrp(terminal).is_ok_and(|foreground| foreground == group))
}

/// Moves a process group to the foreground. Call it only from the foreground group; any other group
/// would be stopped.
pub(super) fn set_foreground(group: Pid) {
    if let Some(terminal) = open() {
        // Fails if the group has already ended.
        let _ = tcsetpgrp(terminal, group);
    }
}

pub(super) fn open() -> Option<File> {
    File::open("/dev/tty").ok()
}
