//! All that connects rig to Runtrail.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use rig_agent::Agent;
use rig_agent::agent::{
    AgentHook, DispatchAction, DispatchEvent, HookContext, OutcomeAction, OutcomeEvent, RunSettled,
    SettledOutcome,
};
use rig_core::completion::CompletionResponse;
use rig_core::effect::{EffectId, EffectKind, Outcome};
use runtrail::{Event, RunHandle, RunStats, RunStatus, Usage};
use serde_json::{Value, json};

/// Prompts an agent, records what it does, and finishes the run with its answer or its error. If
/// this future is dropped, the run ends as `cancelled`.
pub(crate) async fn answer(run: &RunHandle, agent: &Agent, prompt: &str) -> Result<String> {
    run.scope(async {
        let response = agent.prompt(prompt).add_hook(RecordCalls::new(run)).await?;
        let answer = response.output();
        // On its own, `scope` would finish the run without an output.
        run.finish(RunStats::new(RunStatus::OK).output(&answer))
            .await?;
        Ok(answer)
    })
    .await
}

/// Records the model calls and tool calls of an agent's run.
struct RecordCalls {
    run: RunHandle,
    /// When the calls that have no outcome yet started.
    started: Mutex<HashMap<EffectId, Instant>>,
}

impl RecordCalls {
    fn new(run: &RunHandle) -> Self {
        Self {
            run: run.clone(),
            started: Mutex::default(),
        }
    }

    fn started(&self) -> MutexGuard<'_, HashMap<EffectId, Instant>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn duration(&self, id: EffectId) -> Duration {
        let started = self.started().remove(&id);
        started.map_or(Duration::ZERO, |started| started.elapsed())
    }
}

impl AgentHook for RecordCalls {
    async fn on_dispatch(&self, _: &HookContext, event: DispatchEvent<'_>) -> DispatchAction {
        self.started().insert(event.id, Instant::now());
        DispatchAction::proceed()
    }

    async fn on_outcome(&self, _: &HookContext, event: OutcomeEvent<'_>) -> OutcomeAction {
        let duration = self.duration(event.id);
        if let Some(response) = event.completion() {
            let call = Event::model_call(usage(response)).duration(duration);
            self.run
                .record(call.payload(json!({"text": response.text()})));
        }
        if let EffectKind::ToolCall { name, args } = event.kind {
            // The model may have written arguments that aren't JSON.
            let arguments = serde_json::from_str(args).unwrap_or_else(|_| Value::from(&**args));
            let call = Event::tool_call(name, arguments);
            self.run.record(call.duration(duration));
            let error = match event.outcome {
                Ok(Outcome::ToolResult { result }) => {
                    result.error().or(result.refusal()).map(ToString::to_string)
                }
                Ok(_) => None,
                Err(report) => Some(report.to_string()),
            };
            if let Some(error) = error {
                let payload = json!({"tool": name, "error": error});
                self.run.log("tool_error", payload);
            }
        }
        OutcomeAction::proceed()
    }

    /// Records the model call that made the run fail: rig reports no outcome for it.
    async fn on_run_settled(&self, _: &HookContext, event: RunSettled<'_>) {
        if let SettledOutcome::Error(error) = event.outcome {
            for (_, started) in self.started().drain() {
                let failed = Event::new("model_error", json!({"error": error}));
                self.run.record(failed.duration(started.elapsed()));
            }
        }
    }
}

/// Converts what the provider reported; rig's counts mean the same as Runtrail's.
fn usage(response: &CompletionResponse) -> Usage {
    let mut usage = Usage::new().provider(response.provider());
    usage.model = response.model().map(str::to_owned);
    usage.input_tokens = response.usage.input_tokens;
    usage.cache_read_tokens = response.usage.cached_input_tokens;
    usage.cache_write_tokens = response.usage.cache_creation_input_tokens;
    usage.output_tokens = response.usage.output_tokens;
    usage.thinking_tokens = response.usage.reasoning_tokens;
    usage
}
