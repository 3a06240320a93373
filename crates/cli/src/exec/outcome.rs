use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use runtrail::RunStatus;
use rustix::process::Signal;
use serde_json::{Value, json};
use signal_hook::low_level;

use crate::failure::FAILED;

/// The exit code of `timeout` from the GNU core utilities, which scripts know.
const TIMED_OUT: u8 = 124;
const CANNOT_BE_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// How a program ended.
pub(super) struct Outcome {
    pub(super) ending: Ending,
    pub(super) runtime: Duration,
    /// The timeout, if the program reached it.
    pub(super) timed_out_after: Option<Duration>,
    /// The last signal that this process received and forwarded.
    pub(super) forwarded_signal: Option<Signal>,
    /// Why some of the output was not passed on.
    pub(super) output_lost: Option<String>,
}

pub(super) enum Ending {
    Exited(ExitStatus),
    /// The exit status can't be read.
    Unknown(io::Error),
    NotRun(io::Error),
    /// This process received a signal before it started the program.
    Cancelled(Signal),
}

impl Outcome {
    /// Returns the outcome of a program that never ran.
    pub(super) fn without_running(ending: Ending) -> Self {
        Self {
            ending,
            runtime: Duration::ZERO,
            timed_out_after: None,
            forwarded_signal: None,
            output_lost: None,
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match &self.ending {
            Ending::NotRun(err) if err.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Ending::NotRun(_) => CANNOT_BE_RUN,
            Ending::Cancelled(signal) => signal_exit_code(signal.as_raw()),
            _ if self.timed_out_after.is_some() => TIMED_OUT,
            Ending::Exited(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => signal_exit_code(signal),
                (None, Some(0)) if self.output_lost.is_some() => FAILED,
                (None, code) => u8::try_from(code.unwrap_or(1)).unwrap_or(u8::MAX),
            },
            Ending::Unknown(_) => FAILED,
        }
    }

    /// Whether SIGINT killed the program, or arrived before its start.
    pub(super) fn was_interrupted(&self) -> bool {
        match &self.ending {
            Ending::Exited(status) => {
                self.timed_out_after.is_none() && status.signal() == Some(Signal::INT.as_raw())
            }
            Ending::Cancelled(signal) => *signal == Signal::INT,
            Ending::Unknown(_) | Ending::NotRun(_) => false,
        }
    }

    pub(super) fn status(&self) -> RunStatus {
        match &self.ending {
            Ending::Exited(_) | Ending::Unknown(_) if self.timed_out_after.is_some() => {
                RunStatus::TIMEOUT
            }
            Ending::Exited(status) if status.success() => RunStatus::OK,
            _ => RunStatus::ERROR,
        }
    }

    /// Returns what went wrong, in one line; empty if nothing did.
    pub(super) fn error(&self) -> String {
        let mut parts = Vec::new();
        if let Some(timeout) = self.timed_out_after {
            parts.push(format!(
                "timed out after {}",
                humantime::format_duration(timeout)
            ));
        }
        if let Some(signal) = self.forwarded_signal {
            parts.push(format!(
                "runtrail received {} and forwarded it",
                signal_name(signal)
            ));
        }
        match &self.ending {
            Ending::NotRun(err) => parts.push(format!("can't be run: {err}")),
            Ending::Cancelled(signal) => {
                parts.push(format!(
                    "not started: runtrail received {}",
                    signal_name(*signal)
                ));
            }
            Ending::Unknown(err) => parts.push(format!("the exit status is unknown: {err}")),
            Ending::Exited(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => {
                    parts.push(format!(
                        "killed by {} (signal {signal})",
                        raw_signal_name(signal)
                    ));
                }
                (None, Some(0)) => {}
                (None, code) => parts.push(format!("exit code {}", code.unwrap_or_default())),
            },
        }
        if let Some(reason) = &self.output_lost {
            parts.push(format!("not all of the output was passed on: {reason}"));
        }
        parts.join("; ")
    }

    /// Returns the payload of the `exit` event.
    pub(super) fn event(&self) -> Value {
        let Ending::Exited(status) = &self.ending else {
            return json!({ "error": self.error() });
        };
        let mut event = match status.signal() {
            Some(signal) => json!({ "signal": signal, "signal_name": raw_signal_name(signal) }),
            None => json!({ "code": status.code() }),
        };
        event["runtime_seconds"] = self.runtime.as_secs_f64().into();
        if self.timed_out_after.is_some() {
            event["timed_out"] = true.into();
        }
        event
    }
}

/// Returns the exit code that a shell reports for a program killed by a signal.
pub(super) fn signal_exit_code(signal: i32) -> u8 {
    u8::try_from(signal + 128).unwrap_or(u8::MAX)
}

pub(super) fn signal_name(signal: Signal) -> String {
    raw_signal_name(signal.as_raw())
}

fn raw_signal_name(signal: i32) -> String {
    if let Some(name) = low_level::signal_name(signal) {
        return name.to_owned();
    }
    #[cfg(target_os = "linux")]
    {
        use rustix_libc_wrappers::process::SignalExt;

        match signal - Signal::rt_min().as_raw() {
            number @ 0.. => return format!("SIGRTMIN+{number}"),
            _ if signal == Signal::POWER.as_raw() => return "SIGPWR".to_owned(),
            // The number of SIGSTKFLT, on systems that have it.
            _ if signal == 16 => return "SIGSTKFLT".to_owned(),
            _ => {}
        }
    }
    format!("signal {signal}")
}
