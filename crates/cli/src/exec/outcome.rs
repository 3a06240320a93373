use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use runtrail::RunStatus;
use rustix::process::Signal;
use serde_json::{Value, json};
use signal_hook::low_level::signal_name;

use crate::failure::FAILED;

/// What `timeout` of the GNU core utilities gives, so that scripts know it.
const TIMED_OUT: u8 = 124;
const CANNOT_BE_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// How a program ended.
pub(super) struct Outcome {
    pub(super) ending: Ending,
    pub(super) runtime: Duration,
    /// The time it was given, if it has used it up.
    pub(super) timed_out_after: Option<Duration>,
    /// The last signal that we were sent, and have passed on.
    pub(super) passed_on: Option<Signal>,
    /// Why not all of its output was passed on.
    pub(super) output_lost: Option<String>,
}

pub(super) enum Ending {
    Exited(ExitStatus),
    /// The system doesn't say how.
    Unknown(io::Error),
    NotRun(io::Error),
    /// We were sent a signal before it was run.
    Forestalled(Signal),
}

impl Outcome {
    /// Of a program that has never run.
    pub(super) fn without_running(ending: Ending) -> Self {
        Self {
            ending,
            runtime: Duration::ZERO,
            timed_out_after: None,
            passed_on: None,
            output_lost: None,
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match &self.ending {
            Ending::NotRun(err) if err.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Ending::NotRun(_) => CANNOT_BE_RUN,
            Ending::Forestalled(signal) => after_signal(signal.as_raw()),
            _ if self.timed_out_after.is_some() => TIMED_OUT,
            Ending::Exited(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => after_signal(signal),
                (None, Some(0)) if self.output_lost.is_some() => FAILED,
                (None, code) => u8::try_from(code.unwrap_or(1)).unwrap_or(u8::MAX),
            },
            Ending::Unknown(_) => FAILED,
        }
    }

    /// Whether SIGINT has killed it, or kept it from being run.
    pub(super) fn was_interrupted(&self) -> bool {
        match &self.ending {
            Ending::Exited(status) => {
                self.timed_out_after.is_none() && status.signal() == Some(Signal::INT.as_raw())
            }
            Ending::Forestalled(signal) => *signal == Signal::INT,
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

    /// What went wrong, in a line; empty if nothing did.
    pub(super) fn error(&self) -> String {
        let mut parts = Vec::new();
        if let Some(timeout) = self.timed_out_after {
            parts.push(format!(
                "timed out after {}",
                humantime::format_duration(timeout)
            ));
        }
        if let Some(signal) = self.passed_on {
            parts.push(format!(
                "runtrail was sent {} and passed it on",
                name(signal)
            ));
        }
        match &self.ending {
            Ending::NotRun(err) => parts.push(format!("can't be run: {err}")),
            Ending::Forestalled(signal) => {
                parts.push(format!("not run, as runtrail was sent {}", name(*signal)));
            }
            Ending::Unknown(err) => parts.push(format!("how it ended is not known: {err}")),
            Ending::Exited(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => {
                    parts.push(format!("killed by {} (signal {signal})", name_of(signal)));
                }
                (None, Some(0)) => {}
                (None, code) => parts.push(format!("exit code {}", code.unwrap_or_default())),
            },
        }
        if let Some(reason) = &self.output_lost {
            parts.push(format!("its output was not passed on to its end: {reason}"));
        }
        parts.join("; ")
    }

    /// The payload of the event that ends the run.
    pub(super) fn event(&self) -> Value {
        let Ending::Exited(status) = &self.ending else {
            return json!({ "error": self.error() });
        };
        let mut event = match status.signal() {
            Some(signal) => json!({ "signal": signal, "signal_name": name_of(signal) }),
            None => json!({ "code": status.code() }),
        };
        event["runtime_seconds"] = self.runtime.as_secs_f64().into();
        if self.timed_out_after.is_some() {
            event["timed_out"] = true.into();
        }
        event
    }
}

/// A shell's exit code for a program that a signal has ended.
pub(super) fn after_signal(signal: i32) -> u8 {
    u8::try_from(signal + 128).unwrap_or(u8::MAX)
}

pub(super) fn name(signal: Signal) -> String {
    name_of(signal.as_raw())
}

fn name_of(signal: i32) -> String {
    if let Some(name) = signal_name(signal) {
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
