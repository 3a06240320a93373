//! A stand-in for a provider's HTTP API (OpenAI's chat completions). It answers from a script: the
//! request's model selects the script, and the number of the model's earlier messages the line.

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The names of the models that have a script.
pub(crate) const RESEARCHER: &str = "stand-in-large";
pub(crate) const EDITOR: &str = "stand-in-small";

struct Line {
    reply: Reply,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
}

enum Reply {
    /// Tool calls: the tool, its only argument, and the value.
    Calls(&'static [(&'static str, &'static str, &'static str)]),
    Text(&'static str),
    /// Repeats what the last tool returned.
    LastResult,
}

/// `input` is all input tokens and those read from a cache; `output` is all output tokens and those
/// spent on reasoning.
const fn line(reply: Reply, input: [u64; 2], output: [u64; 2]) -> Line {
    Line {
        reply,
        input_tokens: input[0],
        cached_tokens: input[1],
        output_tokens: output[0],
        reasoning_tokens: output[1],
    }
}

static RESEARCH: [Line; 3] = [
    line(
        Reply::Calls(&[
            ("tide_table", "station", "Cuxhaven"),
            ("tide_table", "station", "Husum"),
            ("tide_table", "station", "Helgoland"),
        ]),
        [1_420, 0],
        [96, 40],
    ),
    line(
        Reply::Calls(&[(
            "ask_editor",
            "draft",
            "Husum has the highest high water today, at 3.8 m. In Cuxhaven it is 3.4 m. \
             For Helgoland there is no table.",
        )]),
        [1_560, 1_408],
        [48, 0],
    ),
    line(Reply::LastResult, [1_640, 1_536], [30, 0]),
];

static EDITING: [Line; 2] = [
    line(
        Reply::Calls(&[(
            "count_words",
            "text",
            "Husum, with 3.8 m; Cuxhaven has 3.4 m, and Helgoland no table.",
        )]),
        [180, 0],
        [70, 32],
    ),
    line(
        Reply::Text("Husum, with 3.8 m; Cuxhaven has 3.4 m, and Helgoland no table."),
        [264, 128],
        [24, 0],
    ),
];

/// Starts the server and returns its base URL.
pub(crate) async fn start() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service_fn(serve)));
        }
    });
    Ok(url)
}

async fn serve(request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let is_known =
        request.method() == Method::POST && request.uri().path() == "/v1/chat/completions";
    let body = request.into_body().collect().await?.to_bytes();
    let (status, reply) = match is_known.then(|| reply(&body)) {
        Some(Ok(reply)) => (StatusCode::OK, reply),
        Some(Err(err)) => (StatusCode::BAD_REQUEST, error(&format!("{err:#}"))),
        None => (
            StatusCode::NOT_FOUND,
            error("there is only /v1/chat/completions"),
        ),
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    Ok(response.body(Full::from(reply.to_string()))?)
}

fn error(message: &str) -> Value {
    json!({"error": {"message": message, "type": "invalid_request_error"}})
}

fn reply(request: &[u8]) -> Result<Value> {
    let request: Value = serde_json::from_slice(request)?;
    let model = request["model"].as_str().context("no model")?;
    let messages = request["messages"].as_array().context("no messages")?;
    let turn = messages
        .iter()
        .filter(|it| it["role"] == "assistant")
        .count();
    let script: &[Line] = match model {
        RESEARCHER => &RESEARCH,
        EDITOR => &EDITING,
        _ => &[],
    };
    let line = script.get(turn).context("the script has no such line")?;
    let (message, finish_reason) = match line.reply {
        Reply::Calls(calls) => (calls_message(turn, calls), "tool_calls"),
        Reply::Text(text) => (json!({"role": "assistant", "content": text}), "stop"),
        Reply::LastResult => {
            let result = messages.iter().rfind(|it| it["role"] == "tool");
            let result = &result.context("no tool was called")?["content"];
            (json!({"role": "assistant", "content": result}), "stop")
        }
    };
    Ok(json!({
        "id": format!("{model}-{turn}"),
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": line.input_tokens,
            "completion_tokens": line.output_tokens,
            "total_tokens": line.input_tokens + line.output_tokens,
            "prompt_tokens_details": {"cached_tokens": line.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": line.reasoning_tokens},
        },
    }))
}

fn calls_message(turn: usize, calls: &[(&str, &str, &str)]) -> Value {
    let calls = calls
        .iter()
        .enumerate()
        .map(|(index, (tool, name, value))| {
            // The API sends arguments as text.
            let arguments = json!({*name: value}).to_string();
            json!({
                "id": format!("call-{turn}-{index}"),
                "type": "function",
                "function": {"name": tool, "arguments": arguments},
            })
        });
    json!({"role": "assistant", "content": null, "tool_calls": calls.collect::<Vec<_>>()})
}
