//! A terminal of its own for the program, between it and ours.

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

/// The size where there is no terminal of ours: programs expect to have room.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// How often to check whether our terminal is ours to read from.
const LOOK_AT_TERMINAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The end of the terminal at which a person would sit.
pub(super) struct PseudoTerminal {
    pty: Pty,
    keyboard: Option<Keyboard>,
    /// The modes of our own terminal before what is typed there was passed on.
    modes: OnceLock<Termios>,
}

/// Our own terminal, to read from. Its descriptor is stdin if that is a terminal, since some systems can't wait for
/// `/dev/tty`.
struct Keyboard(OwnedFd);

impl Keyboard {
    /// Also with another stdin: a program asks for passwords at its terminal.
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
    /// Kept until the program ends. Otherwise one that closes its streams and goes on would hang up the terminal.
    pub(super) kept: OwnedFd,
}

impl PseudoTerminal {
    pub(super) fn open() -> io::Result<(Self, ProgramEnd)> {
        let (pty, pts) = open().map_err(into_io)?;
        // Writing to it must not block while the program doesn't read.
        rustix::io::ioctl_fionbio(&pty, true)?;
        let keyboard = Keyboard::find()?;
        // In the background they could be those of a shell at its prompt.
        if let Some(Keyboard(ours)) = keyboard.as_ref().filter(|_| terminal::is_ours()) {
            tcsetattr(&pts, OptionalActions::Now, &tcgetattr(ours)?)?;
        }
        let terminal = Self {
            pty,
            keyboard,
            modes: OnceLock::new(),
        };
        terminal.resize();
        let kept = pts.as_fd().try_clone_to_owned()?;
        Ok((terminal, ProgramEnd { pts, kept }))
    }

    /// Makes it as large as ours; the program is told by SIGWINCH.
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
        // Fails if the terminal has been hung up.
        let _ = self.pty.resize(size);
    }

    /// Passes on what is typed into our terminal, as long as we are in its foreground.
    pub(super) fn pass_on_typing(
        self: &Arc<Self>,
        (until, writer): (PipeReader, PipeWriter),
    ) -> Option<Typing> {
        self.keyboard.as_ref()?;
        let terminal = Arc::clone(self);
        Some(Typing {
            terminal: Arc::clone(self),
            until: Some(writer),
            passing_on: spawn_blocking(move || terminal.pass_on_until(&until)),
        })
    }

    fn pass_on_until(&self, until: &PipeReader) -> io::Result<()> {
        let Some(Keyboard(keyboard)) = &self.keyboard else {
            return Ok(());
        };
        let mut typed = [0; 4096];
        loop {
            if !terminal::is_ours() {
                if is_over(until, &LOOK_AT_TERMINAL)? {
                    return Ok(());
                }
                continue;
            }
            self.make_raw(keyboard)?;
            if is_over_before(until, keyboard, PollFlags::IN)? {
                return Ok(());
            }
            // The shell may have taken it back meanwhile, and reading would stop us.
            if !terminal::is_ours() {
                continue;
            }
            // Not by `Stdin`, whose buffer would keep what comes after the program for nobody.
            match rustix::io::read(keyboard, &mut typed) {
                Ok(0) | Err(Errno::IO) => return Ok(()),
                Ok(read) => self.type_in(&typed[..read], until)?,
                Err(Errno::INTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    /// Waits while the program doesn't read what has been typed before.
    fn type_in(&self, mut typed: &[u8], until: &PipeReader) -> io::Result<()> {
        while !typed.is_empty() {
            if is_over_before(until, &self.pty, PollFlags::OUT)? {
                return Ok(());
            }
            match rustix::io::write(&self.pty, typed) {
                Ok(written) => typed = &typed[written..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }

    /// Lets every key through to the program's terminal, which knows what ^C means there.
    fn make_raw(&self, keyboard: &OwnedFd) -> io::Result<()> {
        let before = tcgetattr(keyboard)?;
        let mut modes = self.modes.get_or_init(|| before).clone();
        modes.make_raw();
        Ok(tcsetattr(keyboard, OptionalActions::Now, &modes)?)
    }

    /// The keyboard whose modes we have changed, and its own modes. In the background there is none: the shell has
    /// restored the modes, and setting them would stop us.
    fn changed(&self) -> Option<(&OwnedFd, &Termios)> {
        let Keyboard(keyboard) = self.keyboard.as_ref()?;
        let modes = self.modes.get()?;
        terminal::is_ours().then_some((keyboard, modes))
    }
}

/// What the program writes to its terminal.
pub(super) struct Output(pub(super) Arc<PseudoTerminal>);

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.pty.as_fd()
    }
}

impl Read for Output {
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(&self.0.pty, chunk) {
            // Nobody has the other end any more.
            Err(Errno::IO) => Ok(0),
            read => Ok(read?),
        }
    }
}

/// A thread that passes on what is typed. When this is dropped, our terminal is as it was.
pub(super) struct Typing {
    terminal: Arc<PseudoTerminal>,
    until: Option<PipeWriter>,
    passing_on: JoinHandle<io::Result<()>>,
}

impl Typing {
    /// After we were stopped: a shell has changed the modes of our terminal.
    pub(super) fn go_on(&self) {
        if let Some((keyboard, _)) = self.terminal.changed() {
            // The thread reports what is wrong with the terminal.
            let _ = self.terminal.make_raw(keyboard);
        }
    }

    pub(super) async fn end(mut self) -> io::Result<()> {
        drop(self.until.take());
        (&mut self.passing_on).await?
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        if let Some((keyboard, modes)) = self.terminal.changed() {
            let _ = tcsetattr(keyboard, OptionalActions::Now, modes);
        }
    }
}

/// Whether the other end of a pipe that nobody writes to has gone, or goes within a while.
fn is_over(pipe: &PipeReader, within: &Timespec) -> io::Result<bool> {
    match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(within)) {
        Err(Errno::INTR) => Ok(false),
        polled => Ok(polled? > 0),
    }
}

/// Waits until a file is ready; returns whether the other end of the pipe has gone by then.
fn is_over_before(pipe: &PipeReader, file: &impl AsFd, ready: PollFlags) -> io::Result<bool> {
    let mut waiting_for = [PollFd::new(file, ready), PollFd::new(pipe, PollFlags::IN)];
    loop {
        match poll(&mut waiting_for, None) {
            Err(Errno::INTR) => {}
            polled => {
                polled?;
                return Ok(!waiting_for[1].revents().is_empty());
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

/// Starts a program in a session of its own, with this terminal.
pub(super) fn spawn(command: Command, pts: Pts) -> io::Result<Child> {
    let mut command = pty_process::blocking::Command::from(command);
    // Nothing is lost of it, and its end comes as an end.
    if !io::stdin().is_terminal() {
        command = command.stdin(Stdio::inherit());
    }
    command.spawn(pts).map_err(into_io)
}
