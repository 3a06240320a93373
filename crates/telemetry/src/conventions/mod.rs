//! The names by which spans and logs of agents are recognised: one table for each convention.

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
mod runtrail;
mod swiftide;
mod vercel;

use serde_json::{Map, Value};

use crate::convention::Convention;
use crate::span::Source;

pub(crate) use self::gen_ai::GEN_AI;
pub(crate) use self::open_inference::OPEN_INFERENCE;

/// All conventions. Those of a single program precede general ones, whose names it may use in a
/// sense of its own.
const ALL: [&Convention; 14] = [
    &claude_code::CLAUDE_CODE,
    &codex::CODEX,
    &goose::GOOSE,
    &swiftide::SWIFTIDE,
    &adk::ADK,
    &mcp::MCP,
    &GEN_AI,
    &open_inference::LANGCHAIN,
    &OPEN_INFERENCE,
    &vercel::VERCEL,
    &open_llmetry::OPEN_LLMETRY,
    &pydantic_ai::PYDANTIC_AI,
    &mlflow::MLFLOW,
    &runtrail::RUNTRAIL,
];

/// Returns the conventions that apply to a span or log.
pub(crate) fn of(
    name: &str,
    source: &Source,
    attributes: &Map<String, Value>,
) -> Vec<&'static Convention> {
    let applies = |convention: &&&Convention| convention.applies(name, source, attributes.keys());
    ALL.iter().filter(applies).copied().collect()
}
