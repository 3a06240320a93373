//! Our controlling terminal, if there is one, and which process group may read from it.

use std::fs::File;

use rustix::process::{Pid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// Whether our process group is in its foreground.
pub(super) fn is_ours() -> bool {
    open().is_some_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

/// Whether this process group is in its foreground.
pub(super) fn is_of(group: Pid) -> bool {
    open().is_some_and(|terminal| tcgetpgrp(terminal).is_ok_and(|foreground| foreground == group))
}

/// Moves another process group to the foreground. Only the foreground group may do that: any other would be stopped.
pub(super) fn hand_over(to: Pid) {
    if let Some(terminal) = open() {
        // Fails if the group has already ended.
        let _ = tcsetpgrp(terminal, to);
    }
}

pub(super) fn open() -> Option<File> {
    File::open("/dev/tty").ok()
}
