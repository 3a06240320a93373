use serde::{Deserialize, Serialize};

/// What a model or tool call consumed, as reported by its provider.
///
/// Every field is optional. An empty `Usage` is stored as no usage, and read back as `None`.
/// An unknown number is `None`, not 0.
///
/// ```
/// use runtrail_audit::Usage;
///
/// let usage = Usage::new()
///     .provider("anthropic")
///     .model("claude-sonnet-4-5")
///     .input_tokens(1_200)
///     .cache_read_tokens(1_000)
///     .output_tokens(80)
///     .cost_micros(4_200);
/// assert_eq!(usage.thinking_tokens, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Usage {
    /// The provider that ran the model, such as `anthropic`; 1 to 255 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model, as the provider reports it; 1 to 255 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// All input tokens, including those read from and written to a cache; like every count, at
    /// most [`i64::MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// The input tokens that were read from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// The input tokens that were written to a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// All output tokens, including those spent on reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// The output tokens that were spent on reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_tokens: Option<u64>,
    /// The reported cost in millionths of a US dollar. Runtrail stores it as reported and
    /// never computes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
}

impl Usage {
    /// Creates an empty usage.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the provider that ran the model.
    #[must_use]
    pub fn provider(mut self, provider: impl Into<String>) -> Self {
        self.provider = Some(provider.into());
        self
    }

    /// Sets the model.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Sets the number of all input tokens.
    #[must_use]
    pub fn input_tokens(mut self, tokens: u64) -> Self {
        self.input_tokens = Some(tokens);
        self
    }

    /// Sets how many of the input tokens were read from a cache.
    #[must_use]
    pub fn cache_read_tokens(mut self, tokens: u64) -> Self {
        self.cache_read_tokens = Some(tokens);
        self
    }

    /// Sets how many of the input tokens were written to a cache.
    #[must_use]
    pub fn cache_write_tokens(mut self, tokens: u64) -> Self {
        self.cache_write_tokens = Some(tokens);
        self
    }

    /// Sets the number of all output tokens.
    #[must_use]
    pub fn output_tokens(mut self, tokens: u64) -> Self {
        self.output_tokens = Some(tokens);
        self
    }

    /// Sets how many of the output tokens were spent on reasoning.
    #[must_use]
    pub fn thinking_tokens(mut self, tokens: u64) -> Self {
        self.thinking_tokens = Some(tokens);
        self
    }

    /// Sets the reported cost in millionths of a US dollar.
    #[must_use]
    pub fn cost_micros(mut self, cost: u64) -> Self {
        self.cost_micros = Some(cost);
        self
    }

    /// Returns whether no field is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
