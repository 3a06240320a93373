//! The program's own terminal: a pseudo-terminal between the program and this process's terminal.

use std::io::{self, IsTerminal, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use pty_process::blocking::{Pts, Pty, open};
use pty_process::{Error, Size};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::task::{JoinHandle, spawn_blocking};

use super::terminal;

/// The size if this process has no terminal.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// How often to check whether this process has moved to the foreground of its terminal.
const TERMINAL_POLL_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The controlling end of the program's terminal.
pub(super) struct PseudoTerminal {
    pty: Pty,
    keyboard: Option<Keyboard>,
    /// The modes of this process's terminal before they were changed.
    modes: OnceLock<Termios>,
}

/// This process's terminal, for reading. The descriptor is stdin if that is a terminal, since some
/// systems can't poll `/dev/tty`.
struct Keyboard(OwnedFd);

impl Keyboard {
    /// Finds the terminal even if stdin is something else, since programs ask for passwords on the
    /// terminal.
    fn find() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Ok(Some(Self(stdin.as_fd().try_clone_to_owned()?)));
        }
        Ok(terminal::open().map(|terminal| Self(terminal.into())))
    }
}

/// The program's end of the terminal.
pub(super) struct ProgramEnd {
    pub(super) pts: Pts,
    /// Kept open until the program ends. Otherwise a program that closes its streams but keeps
    /// running would hang up the terminal.
    pub(super) keep_open: OwnedFd,
}

impl PseudoTerminal {
    pub(super) fn open() -> io::Result<(Self, ProgramEnd)> {
        let (pty, pts) = open().map_err(into_io)?;
        // Writes must not block while the program doesn't read.
        rustix::io::ioctl_fionbio(&pty, true)?;
        let keyboard = Keyboard::find()?;
        // Copy the modes only in the foreground. In the background they may be those of a shell at
        // its prompt.
        if let Some(Keyboard(ours)) = keyboard.as_ref().filter(|_| terminal::is_foreground()) {
            tcsetattr(&pts, OptionalActions::Now, &tcgetattr(ours)?)?;
        }
        let terminal = Self {
            pty,
            keyboard,
            modes: OnceLock::new(),
        };
        terminal.resize();
        let keep_open = pts.as_fd().try_clone_to_owned()?;
        Ok((terminal, ProgramEnd { pts, keep_open }))
    }

    /// Sets the size to that of this process's terminal. The kernel sends SIGWINCH to the program.
    pub(super) fn resize(&self) {
        let sizes = [
            tcgetwinsize(io::stdout()),
            tcgetwinsize(io::stderr()),
            tcgetwinsize(io::stdin()),
        ];
        let ours = sizes
            .into_iter()
            .flatten()
            .find(|size| size.ws_row > 0 && size.ws_col > 0);
        let size = ours.map_or(Size::new(ROWS, COLUMNS), |ours| {
            Size::new_with_pixel(ours.ws_row, ours.ws_col, ours.ws_xpixel, ours.ws_ypixel)
        });
        // Fails if the terminal has hung up.
        let _ = self.pty.resize(size);
    }

    /// Starts to pass on keyboard input while this process is in the foreground of its terminal.
    pub(super) fn forward_input(
        self: &Arc<Self>,
        (stop, writer): (PipeReader, PipeWriter),
    ) -> Option<InputForwarder> {
        self.keyboard.as_ref()?;
        let terminal = Arc::clone(self);
        Some(InputForwarder {
            terminal: Arc::clone(self),
            stop: Some(writer),
            task: spawn_blocking(move || terminal.forward_until(&stop)),
        })
    }

    fn forward_until(&self, stop: &PipeReader) -> io::Result<()> {
        let Some(Keyboard(keyboard)) = &self.keyboard else {
            return Ok(());
        };
        let mut input = [0; 4096];
        loop {
            if !terminal::is_foreground() {
                if is_closed(stop, &TERMINAL_POLL_INTERVAL)? {
                    return Ok(());
                }
                continue;
            }
            self.make_raw(keyboard)?;
            if wait_until_ready(stop, keyboard, PollFlags::IN)? {
                return Ok(());
            }
            // If the shell has moved to the foreground meanwhile, a read would stop this process.
            if !terminal::is_foreground() {
                continue;
            }
            // Not through `Stdin`, whose buffer would swallow input that is typed after the program
            // has ended.
            match rustix::io::read(keyboard, &mut input) {
                Ok(0) | Err(Errno::IO) => return Ok(()),
                Ok(read) => self.write_input(&input[..read], stop)?,
                Err(Errno::INTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    /// Writes input to the program's terminal. Waits while the program doesn't read earlier input.
    fn write_input(&self, mut input: &[u8], stop: &PipeReader) -> io::Result<()> {
        while !input.is_empty() {
            if wait_until_ready(stop, &self.pty, PollFlags::OUT)? {
                return Ok(());
            }
            match rustix::io::write(&self.pty, input) {
                Ok(written) => input = &input[written..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }

    /// Switches this process's terminal to raw mode: the program's terminal interprets every key,
    /// such as ^C.
    fn make_raw(&self, keyboard: &OwnedFd) -> io::Result<()> {
        let before = tcgetattr(keyboard)?;
        let mut modes = self.modes.get_or_init(|| before).clone();
        modes.make_raw();
        Ok(tcsetattr(keyboard, OptionalActions::Now, &modes)?)
    }

    /// Returns the keyboard whose modes were changed, and its original modes.
    ///
    /// Returns `None` in the background: the shell has restored the modes, and setting them would
    /// stop this process.
    fn changed_modes(&self) -> Option<(&OwnedFd, &Termios)> {
        let Keyboard(keyboard) = self.keyboard.as_ref()?;
        let modes = self.modes.get()?;
        terminal::is_foreground().then_some((keyboard, modes))
    }
}

/// Reads the program's output from its terminal.
pub(super) struct Output(pub(super) Arc<PseudoTerminal>);

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.pty.as_fd()
    }
}

impl Read for Output {
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(&self.0.pty, chunk) {
            // All descriptors of the other end are closed.
            Err(Errno::IO) => Ok(0),
            read => Ok(read?),
        }
    }
}

/// A thread that passes on keyboard input. Dropping this restores the modes of this process's
/// terminal.
pub(super) struct InputForwarder {
    terminal: Arc<PseudoTerminal>,
    stop: Option<PipeWriter>,
    task: JoinHandle<io::Result<()>>,
}

impl InputForwarder {
    /// Sets raw mode again after this process was stopped, since the shell has changed the modes.
    pub(super) fn resume(&self) {
        if let Some((keyboard, _)) = self.terminal.changed_modes() {
            // The thread reports errors of the terminal.
            let _ = self.terminal.make_raw(keyboard);
        }
    }

    pub(super) async fn end(mut self) -> io::Result<()> {
        drop(self.stop.take());
        (&mut self.task).await?
    }
}

impl Drop for InputForwarder {
    fn drop(&mut self) {
        if let Some((keyboard, modes)) = self.terminal.changed_modes() {
            let _ = tcsetattr(keyboard, OptionalActions::Now, modes);
        }
    }
}

/// Waits up to a timeout for the other end of a pipe to be closed; returns whether it is. Nothing
/// is written to the pipe.
fn is_closed(pipe: &PipeReader, within: &Timespec) -> io::Result<bool> {
    match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(within)) {
        Err(Errno::INTR) => Ok(false),
        polled => Ok(polled? > 0),
    }
}

/// Waits until a file is ready or the other end of a pipe is closed; returns whether the pipe is
/// closed.
fn wait_until_ready(pipe: &PipeReader, file: &impl AsFd, ready: PollFlags) -> io::Result<bool> {
    let mut polled_files = [PollFd::new(file, ready), PollFd::new(pipe, PollFlags::IN)];
    loop {
        match poll(&mut polled_files, None) {
            Err(Errno::INTR) => {}
            polled => {
                polled?;
                return Ok(!polled_files[1].revents().is_empty());
            }
        }
    }
}

fn into_io(err: Error) -> io::Error {
    match err {
        Error::Io(err) => err,
        Error::Rustix(err) => err.into(),
    }
}

/// Starts a program in its own session, with this terminal.
pub(super) fn spawn(command: Command, pts: Pts) -> io::Result<Child> {
    let mut command = pty_process::blocking::Command::from(command);
    // Inherit a stdin that is no terminal: the program gets every byte and the end of input.
    if !io::stdin().is_terminal() {
        command = command.stdin(Stdio::inherit());
    }
    command.spawn(pts).map_err(into_io)
}
