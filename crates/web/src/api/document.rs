//! The OpenAPI document.

use serde_json::{Map, Value, json};

use super::Endpoint;

pub(crate) fn of(endpoints: &[Endpoint]) -> Value {
    let paths = endpoints.iter().map(|endpoint| {
        let path = endpoint.path.trim_start_matches("/api/v1");
        (path.to_owned(), json!({ "get": operation(endpoint) }))
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Runtrail",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A history of runs and their events, read-only. Times are RFC 3339 in \
                UTC. Depending on the access of the caller, some runs are not listed, and inputs, \
                outputs, errors and payloads are left out.",
        },
        // Relative to the address of this document, wherever a host mounts it.
        "servers": [{ "url": "." }],
        "paths": paths.collect::<Map<_, _>>(),
        "components": { "schemas": schemas() },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut parameters = Vec::new();
    if endpoint.path.contains("{run}") {
        parameters.push(json!({
            "name": "run",
            "in": "path",
            "required": true,
            "description": "The id of the run, percent-encoded. If it is `.` or `..` or begins \
                with `~`, put another `~` in front.",
            "schema": { "type": "string" },
        }));
    }
    parameters.extend(endpoint.parameters.iter().map(|(name, description)| {
        json!({
            "name": name,
            "in": "query",
            "description": description,
            "schema": { "type": "string" },
        })
    }));
    let response = |description: &str, schema: &str| {
        let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
        json!({
            "description": description,
            "content": { "application/json": { "schema": schema } },
        })
    };
    json!({
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {
            "200": response("The answer.", endpoint.schema),
            "400": response("A parameter is unknown or has a wrong value.", "Error"),
            "403": response("The caller has no access.", "Error"),
            "404": response("There is no such run.", "Error"),
            "503": response("The database does not answer; Retry-After is set.", "Error"),
        },
    })
}

fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let optional_text = json!({ "type": ["string", "null"] });
    let time = json!({ "type": "string", "format": "date-time" });
    let optional_time = json!({ "type": ["string", "null"], "format": "date-time" });
    let number = json!({ "type": "integer", "minimum": 0 });
    let list_of = |schema: &str| {
        let items = json!({ "$ref": format!("#/components/schemas/{schema}") });
        json!({ "type": "array", "items": items })
    };
    let summary = json!({
        "id": text,
        "skill_id": text,
        "caller_id": text,
        "channel_id": text,
        "parent_run_id": optional_text,
        "started_at": time,
        "finished_at": optional_time,
        "status": text,
        "tool_calls": number,
        "runtime_seconds": { "type": "number", "minimum": 0 },
        "total_input_tokens": number,
        "total_output_tokens": number,
        "total_thinking_tokens": number,
    });
    let mut listed = summary.clone();
    listed["subtree"] = json!({ "$ref": "#/components/schemas/SubtreeTotals" });
    let mut run = summary.clone();
    run["inputs"] = json!({ "type": "object" });
    run["output"] = text.clone();
    run["error"] = text.clone();
    run["owner_id"] = text.clone();
    run["labels"] = json!({ "type": "object", "additionalProperties": text });
    let page_of = |name: &str, schema: &str| {
        json!({
            name: list_of(schema),
            "next": optional_text,
            "previous": optional_text,
        })
    };
    let durations = json!({
        "type": "object",
        "properties": {
            "count": number,
            "sum_micros": number,
            "percentiles": {
                "type": ["object", "null"],
                "properties": {
                    "p50_micros": number,
                    "p90_micros": number,
                    "p95_micros": number,
                    "p99_micros": number,
                },
            },
        },
    });
    let row_of = |values: Value| {
        json!({
            "group": { "type": "array", "items": optional_text },
            "bucket": optional_time,
            "input_tier": { "type": ["integer", "null"] },
            "values": { "type": "object", "properties": values },
        })
    };
    let schemas = json!({
        "RunPage": page_of("runs", "ListedRun"),
        "ListedRun": listed,
        "SubtreeTotals": {
            "run_id": text,
            "runs": number,
            "total_input_tokens": number,
            "total_output_tokens": number,
            "total_thinking_tokens": number,
            "calls": number,
            "cost_micros": number,
            "calls_without_cost": number,
            "is_cut": { "type": "boolean" },
        },
        "RunSummary": summary,
        "Run": run,
        "EventPage": page_of("events", "Event"),
        "Event": {
            "run_id": text,
            "sequence": number,
            "event_type": text,
            "payload": {},
            "created_at": time,
            "duration_micros": number,
            "usage": { "type": "object", "properties": {
                "provider": text,
                "model": text,
                "input_tokens": number,
                "cache_read_tokens": number,
                "cache_write_tokens": number,
                "output_tokens": number,
                "thinking_tokens": number,
                "cost_micros": number,
            } },
        },
        "Tree": { "runs": list_of("RunSummary"), "omitted": number },
        "Statistics": {
            "runs": list_of("RunStatistics"),
            "calls": list_of("CallStatistics"),
        },
        "RunStatistics": row_of(json!({
            "runs": number,
            "finished": number,
            "failed": number,
            "tool_calls": number,
            "runtime": durations,
        })),
        "CallStatistics": row_of(json!({
            "calls": number,
            "input_tokens": number,
            "cache_read_tokens": number,
            "cache_write_tokens": number,
            "output_tokens": number,
            "thinking_tokens": number,
            "cost_micros": number,
            "calls_without_cost": number,
            "duration": durations,
        })),
        "Error": { "error": {
            "type": "object",
            "properties": { "status": number, "message": text },
        } },
    });
    let mut described = Map::new();
    if let Value::Object(schemas) = schemas {
        for (name, properties) in schemas {
            described.insert(name, json!({ "type": "object", "properties": properties }));
        }
    }
    Value::Object(described)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use chrono::DateTime;
    use runtrail_audit::{
        CallStatistics, Durations, RunStatistics, RunSummary, SkillRun, SkillRunLog, StatisticsRow,
        SubtreeTotals, Usage,
    };

    use super::*;
    use crate::api::endpoints;

    /// Compares the fields of a record with the properties of a schema.
    fn assert_described(record: &Value, schema: &Value, name: &str) {
        let Value::Object(record) = record else {
            return;
        };
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        let fields: BTreeSet<_> = record.keys().collect();
        assert_eq!(fields, properties.keys().collect(), "{name}");
        for (field, value) in record {
            assert_described(value, &properties[field], field);
        }
    }

    #[test]
    fn the_schemas_have_the_fields_of_the_records() {
        let at = DateTime::UNIX_EPOCH;
        let run = SkillRun::new("run-1", "skill", at)
            .owner("owner")
            .label("env", "prod");
        let usage = Usage::new()
            .provider("anthropic")
            .model("claude")
            .input_tokens(1)
            .cache_read_tokens(1)
            .cache_write_tokens(1)
            .output_tokens(1)
            .thinking_tokens(1)
            .cost_micros(1);
        let event = SkillRunLog::new("run-1", 0, "model_call", Value::Null)
            .created_at(at)
            .duration(Duration::from_secs(1))
            .usage(usage);
        let mut runs = RunStatistics::default();
        runs.runtime = Durations::of(vec![1]);
        let mut calls = CallStatistics::default();
        calls.duration = Durations::of(vec![1]);
        let schemas = schemas();
        for (name, record) in [
            ("RunSummary", json!(RunSummary::from(&run))),
            ("SubtreeTotals", json!(SubtreeTotals::default())),
            ("Run", json!(run)),
            ("Event", json!(event)),
            ("RunStatistics", json!(StatisticsRow::new(vec![], runs))),
            ("CallStatistics", json!(StatisticsRow::new(vec![], calls))),
        ] {
            assert_described(&record, &schemas[name], name);
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let document = of(&endpoints());
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(
                document["components"]["schemas"].get(name).is_some(),
                "{name}"
            );
        }
    }
}
