//! What spans and logs of each sender become, and limits that hold for any input. The payloads are
//! small, but have the names and types that the senders use.

// Shared: spans and logs to read.
mod fixture;

// One file for each sender or convention.
mod adk;
mod claude_code;
mod codex;
mod gen_ai;
mod goose;
mod mcp;
mod mlflow;
mod open_inference;
mod open_llmetry;
mod pydantic_ai;
mod rig;
mod runtrail;
mod swiftide;
mod vercel;

// What holds for all of them.
mod limits;
mod policy;
mod runs;
