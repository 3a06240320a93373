use std::env;

use anyhow::Result;
use rig_core::Model;
use rig_core::providers::openai::wire::Chat;
use rig_core::providers::openai::{OpenAI, OpenAIConfig};

use crate::stand_in;

/// The model of each agent.
pub(crate) struct Models {
    provider: OpenAI,
    researcher: String,
    editor: String,
}

impl Models {
    /// Uses the model that `AGENT_MODEL` names, or starts the stand-in.
    pub(crate) async fn from_env() -> Result<Self> {
        Ok(match env::var("AGENT_MODEL") {
            Ok(model) => Self {
                provider: OpenAIConfig::from_env()?.client(),
                researcher: model.clone(),
                editor: model,
            },
            Err(_) => Self {
                provider: OpenAIConfig::new("none")
                    .with_base_url(stand_in::start().await?)
                    .client(),
                researcher: stand_in::RESEARCHER.to_owned(),
                editor: stand_in::EDITOR.to_owned(),
            },
        })
    }

    pub(crate) fn researcher(&self) -> Model<Chat> {
        self.provider.chat(&self.researcher)
    }

    pub(crate) fn editor(&self) -> Model<Chat> {
        self.provider.chat(&self.editor)
    }
}
