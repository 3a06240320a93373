use std::io;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::*;

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Sends a request over a connection of its own. `headers` are whole lines.
pub(crate) async fn request(
    method: &str,
    url: &str,
    headers: &str,
    body: &str,
) -> io::Result<Answer> {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    Ok(Answer {
        status: status.ok_or(io::ErrorKind::InvalidData)?,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

pub(crate) async fn post(url: &str, body: &Value) -> io::Result<Answer> {
    request("POST", url, "", &body.to_string()).await
}

pub(crate) async fn get(url: &str) -> Answer {
    request("GET", url, "", "").await.unwrap()
}

/// A span, which lasts from second 0 to second 10 unless another time is given.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) id: u64,
    parent: Option<u64>,
    name: String,
    millis: [i64; 2],
    attributes: Map<String, Value>,
    error: Option<String>,
}

impl Span {
    pub(crate) fn new(id: u64, name: &str) -> Self {
        Self {
            id,
            parent: None,
            name: name.to_owned(),
            millis: [0, 10_000],
            attributes: Map::new(),
            error: None,
        }
    }

    pub(crate) fn agent(id: u64, name: &str) -> Self {
        Self::new(id, &format!("invoke_agent {name}")).with(json!({
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": name,
        }))
    }

    /// A call of a model, with this number of input tokens and half as many output tokens.
    pub(crate) fn chat(id: u64, tokens: u64) -> Self {
        Self::unmeasured_chat(id).with(json!({
            "gen_ai.usage.input_tokens": tokens,
            "gen_ai.usage.output_tokens": tokens / 2,
        }))
    }

    /// A call of a model without tokens.
    pub(crate) fn unmeasured_chat(id: u64) -> Self {
        Self::new(id, "chat gpt-5").with(json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5",
        }))
    }

    pub(crate) fn tool(id: u64, name: &str) -> Self {
        Self::new(id, &format!("execute_tool {name}")).with(json!({
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
        }))
    }

    pub(crate) fn below(mut self, parent: u64) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Sets the milliseconds at which it begins and ends.
    pub(crate) fn during(mut self, begin: i64, end: i64) -> Self {
        self.millis = [begin, end];
        self
    }

    /// Adds attributes.
    pub(crate) fn with(mut self, attributes: Value) -> Self {
        self.attributes.extend(object(attributes));
        self
    }

    pub(crate) fn failed(mut self, message: &str) -> Self {
        self.error = Some(message.to_owned());
        self
    }

    fn as_sent(&self, trace: u128) -> Value {
        let [begin, end] = self.millis.map(nanos);
        let mut span = json!({
            "traceId": format!("{trace:032x}"),
            "spanId": span_id(self.id),
            "name": self.name,
            "kind": 1,
            "startTimeUnixNano": begin,
            "endTimeUnixNano": end,
            "attributes": key_values(&self.attributes),
        });
        if let Some(parent) = self.parent {
            span["parentSpanId"] = span_id(parent).into();
        }
        if let Some(message) = &self.error {
            span["status"] = json!({"code": 2, "message": message});
        }
        span
    }
}

pub(crate) fn span_id(span: u64) -> String {
    format!("{span:016x}")
}

/// The id of the run that a span becomes.
pub(crate) fn run_id(trace: u128, span: u64) -> String {
    format!("{trace:032x}-{span:016x}")
}

/// A request to `/v1/traces`.
pub(crate) fn traces(trace: u128, spans: &[Span]) -> Value {
    let spans: Vec<_> = spans.iter().map(|span| span.as_sent(trace)).collect();
    json!({"resourceSpans": [{
        "resource": resource("tests"),
        "scopeSpans": [{"scope": {"name": "tests"}, "spans": spans}],
    }]})
}

/// A log of Claude Code outside all traces, at this millisecond.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    name: &'static str,
    millis: i64,
    attributes: Map<String, Value>,
}

impl Log {
    pub(crate) fn of_claude_code(name: &'static str, millis: i64, attributes: Value) -> Self {
        Self {
            name,
            millis,
            attributes: object(attributes),
        }
    }
}

/// A request to `/v1/logs` with logs of one prompt.
pub(crate) fn logs(prompt: &str, logs: &[Log]) -> Value {
    let log = |log: &Log| {
        let mut attributes = log.attributes.clone();
        attributes.extend(object(json!({
            "event.name": log.name,
            "prompt.id": prompt,
            "session.id": "session-1",
            "user.id": "alice",
        })));
        json!({
            "timeUnixNano": nanos(log.millis),
            "body": {"stringValue": format!("claude_code.{}", log.name)},
            "attributes": key_values(&attributes),
        })
    };
    json!({"resourceLogs": [{
        "resource": resource("claude-code"),
        "scopeLogs": [{
            "scope": {"name": "com.anthropic.claude_code.events"},
            "logRecords": logs.iter().map(log).collect::<Vec<_>>(),
        }],
    }]})
}

fn resource(service: &str) -> Value {
    json!({"attributes": key_values(&object(json!({"service.name": service})))})
}

/// A 64-bit number is a string in the JSON of protobuf.
fn nanos(millis: i64) -> String {
    let start = at(0).timestamp_nanos_opt().unwrap();
    (start + millis * 1_000_000).to_string()
}

fn key_values(attributes: &Map<String, Value>) -> Vec<Value> {
    let value = |value: &Value| match value {
        Value::Bool(value) => json!({"boolValue": value}),
        Value::Number(number) if number.is_f64() => json!({"doubleValue": number}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::String(text) => json!({"stringValue": text}),
        // Exporters send structures as texts.
        other => json!({"stringValue": other.to_string()}),
    };
    let attributes = attributes.iter();
    attributes
        .map(|(key, it)| json!({"key": key, "value": value(it)}))
        .collect()
}
