use crate::convention::Convention;

/// The inputs and outputs of MLflow's spans. They don't have to be about agents.
pub(crate) const MLFLOW: Convention = Convention {
    tool_arguments: &["mlflow.spanInputs"],
    tool_result: &["mlflow.spanOutputs"],
    input: &["mlflow.spanInputs"],
    output: &["mlflow.spanOutputs"],
    ..Convention::NONE
};
