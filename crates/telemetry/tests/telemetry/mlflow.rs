use runtrail_telemetry::Role;
use serde_json::json;

use crate::fixture::*;

#[test]
fn a_root_has_inputs_and_outputs() {
    let mut root = span(
        "predict",
        json!({
            "mlflow.spanInputs": r#"{"prompt":"Why?"}"#,
            "mlflow.spanOutputs": r#"{"answer":42}"#,
        }),
    );
    root.parent_id = None;
    let record = read(root);
    assert_eq!((record.role, record.is_agentic), (Role::Span, false));
    assert_eq!(record.run.inputs, object(json!({"prompt": "Why?"})));
    assert_eq!(record.run.output, r#"{"answer":42}"#);

    let record = read(span(
        "chat",
        json!({
            "gen_ai.operation.name": "chat",
            "mlflow.spanInputs": r#"{"messages":[{"role":"user","content":"Why?"}]}"#,
            "mlflow.spanOutputs": r#"{"choices":[]}"#,
        }),
    ));
    assert_eq!(
        event(&record).messages,
        [json!({"role": "user", "content": "Why?"})]
    );
    assert_eq!(event(&record).payload["output"], json!({"choices": []}));
}
