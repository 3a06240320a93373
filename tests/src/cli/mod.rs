//! The `runtrail` command: the built binary, with real programs, on each backend.

/// Recording a program: what it prints, how it ends, what it starts.
mod exec;
mod exec_output;
mod exec_pty;
mod exec_signals;
mod exec_waiting;
mod exec_without_database;

/// Looking at the history.
mod ids;
mod read_only;
mod reading;
mod screens;
mod trees;

/// Moving it and deleting it.
mod import_input;
mod purge;
mod transfer;

/// Error messages, and the databases that the command connects to.
mod errors;
mod servers;
mod urls;
