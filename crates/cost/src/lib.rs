//! What the model calls of a history cost.
//!
//! A history stores tokens, and the costs that senders report. A computed cost is never stored:
//! [`costs`] computes it when it is asked for, from a list of [`Prices`]. Calls without a known
//! price are counted, and never cost 0.

mod costs;
#[cfg(feature = "genai-prices")]
mod gen_ai;
mod price_file;
mod prices;

pub use costs::{Cost, costs};
#[cfg(feature = "genai-prices")]
pub use gen_ai::GenAiPrices;
pub use price_file::{PriceFile, PriceFileError};
pub use prices::{PricedCalls, Prices};
