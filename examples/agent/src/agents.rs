use std::convert::Infallible;

use anyhow::Result;
use rig_agent::{Agent, AgentBuilder, rig_tool};
use rig_core::Model;
use rig_core::providers::openai::wire::Chat;
use rig_core::tool::{Tool, ToolContext, ToolExecutionError};
use runtrail::RunHandle;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::models::Models;
use crate::record;

/// The number of model calls after which rig gives up.
const MAX_TURNS: usize = 8;

/// The agent that answers the question. `run` is the run to which its editor's runs belong, unless
/// a layer records them.
pub(crate) fn researcher(models: &Models, run: Option<&RunHandle>) -> Agent {
    AgentBuilder::new(models.researcher())
        .name("researcher")
        // Prompts, answers, and the arguments and results of tools, in rig's spans.
        .record_content_telemetry(true)
        .preamble("Look up the tides that are asked for. Have the editor rewrite your draft.")
        .default_max_turns(MAX_TURNS)
        .tool(TideTable)
        .tool(AskEditor {
            model: models.editor(),
            run: run.cloned(),
        })
        .build()
}

fn editor(model: Model<Chat>) -> Agent {
    AgentBuilder::new(model)
        .name("editor")
        .record_content_telemetry(true)
        .preamble("Rewrite the draft in at most 20 words. Count them with the tool.")
        .default_max_turns(MAX_TURNS)
        .tool(CountWords)
        .build()
}

/// Prompts an agent without recording anything by hand.
pub(crate) async fn prompt(agent: &Agent, prompt: &str) -> Result<String> {
    Ok(agent.prompt(prompt).await?.output())
}

/// Returns the height of today's high water in metres.
#[rig_tool]
fn tide_table(
    /// The name of a station.
    station: String,
) -> Result<f64, ToolExecutionError> {
    match station.as_str() {
        "Cuxhaven" => Ok(3.4),
        "Husum" => Ok(3.8),
        _ => {
            let error = format!("there is no tide table for {station}");
            Err(ToolExecutionError::not_found(error))
        }
    }
}

/// Counts the words of a text.
#[rig_tool]
fn count_words(
    /// The text.
    text: String,
) -> Result<usize, Infallible> {
    Ok(text.split_whitespace().count())
}

/// The tool with which one agent runs another. Each call is a child run.
struct AskEditor {
    model: Model<Chat>,
    run: Option<RunHandle>,
}

#[derive(Deserialize)]
struct Draft {
    draft: String,
}

impl Tool for AskEditor {
    const NAME: &'static str = "ask_editor";
    type Args = Draft;
    type Output = String;
    type Error = ToolExecutionError;

    fn description(&self) -> String {
        "Has an editor rewrite a draft.".to_owned()
    }

    fn parameters(&self) -> Value {
        json!({
            "type": "object",
            "properties": {"draft": {"type": "string"}},
            "required": ["draft"],
        })
    }

    async fn call(&self, _: &mut ToolContext, args: Draft) -> Result<String, ToolExecutionError> {
        let Draft { draft } = args;
        let editor = editor(self.model.clone());
        let answer = match &self.run {
            Some(run) => {
                let child = run.child("editor").input("draft", json!(draft)).await;
                let child = child.map_err(ToolExecutionError::from_error)?;
                record::answer(&child, &editor, &draft).await
            }
            None => prompt(&editor, &draft).await,
        };
        answer.map_err(|err| ToolExecutionError::other(format!("the editor failed: {err:#}")))
    }
}
