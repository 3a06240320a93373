//! The `runtrail` command: runs the built binary with real programs, on each backend.

// Recording a program: its output, its end, and the processes that it starts.

mod exec;
mod exec_otel;
mod exec_output;
mod exec_pty;
mod exec_signals;
mod exec_waiting;
mod exec_without_database;

// Receiving telemetry.

mod serve;

// Reading a history.

mod cost;
mod ids;
mod labels;
mod read_only;
mod reading;
mod screens;
mod stats;
mod trees;
mod usage;
mod watching;

// Exporting, importing and deleting runs.

mod export_otlp;
mod import_input;
mod purge;
mod transfer;

// Limiting what may be spent.

mod budgets;

// Error messages, and the databases that the command connects to.

mod errors;
mod servers;
mod sweeps;
mod urls;
