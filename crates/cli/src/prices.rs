use std::path::PathBuf;

use clap::Args;
use runtrail::cost::{GenAiPrices, PriceFile, Prices};

use crate::failure::{Failure, Result};

#[derive(Args)]
pub(crate) struct PriceArguments {
    /// A JSON file with prices of your own (docs/cost.md describes it); by default, the published
    /// prices of the large providers, as of this version.
    #[arg(long = "prices", value_name = "FILE", env = "RUNTRAIL_PRICES")]
    file: Option<PathBuf>,
}

impl PriceArguments {
    pub(crate) fn read(&self) -> Result<Box<dyn Prices>> {
        let Some(file) = &self.file else {
            return Ok(Box::new(GenAiPrices::new()));
        };
        let failure = |err: &dyn std::error::Error| {
            let reason = match err.source() {
                Some(source) => format!("{err}: {source}"),
                None => err.to_string(),
            };
            Failure::failed(format!("{}: {reason}", file.display()))
        };
        let json = std::fs::read_to_string(file).map_err(|err| failure(&err))?;
        let prices = PriceFile::parse(&json).map_err(|err| failure(&err))?;
        Ok(Box::new(prices))
    }
}
