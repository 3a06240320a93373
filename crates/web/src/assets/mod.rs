//! The stylesheet, the script and the icon, which are compiled in.

use axum::extract::RawPathParams;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

pub(crate) const PATH: &str = "/assets/{name}";

pub(crate) const STYLESHEET: Asset = Asset::new(
    ("runtrail", "css"),
    "text/css; charset=utf-8",
    include_str!("runtrail.css"),
);

pub(crate) const SCRIPT: Asset = Asset::new(
    ("runtrail", "js"),
    "text/javascript; charset=utf-8",
    include_str!("runtrail.js"),
);

pub(crate) const ICON: Asset =
    Asset::new(("icon", "svg"), "image/svg+xml", include_str!("icon.svg"));

pub(crate) struct Asset {
    /// The name and the extension of the file.
    file: (&'static str, &'static str),
    media_type: &'static str,
    content: &'static str,
    digest: u64,
}

impl Asset {
    const fn new(
        file: (&'static str, &'static str),
        media_type: &'static str,
        content: &'static str,
    ) -> Self {
        Self {
            file,
            media_type,
            content,
            digest: fnv1a(content.as_bytes()),
        }
    }

    /// Returns the path from the list of runs.
    pub(crate) fn link(&self) -> String {
        format!("assets/{}", self.file())
    }

    /// Returns the name with a digest of the content, so that browsers can keep the file.
    fn file(&self) -> String {
        let (name, extension) = self.file;
        format!("{name}-{:016x}.{extension}", self.digest)
    }
}

const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut place = 0;
    while place < bytes.len() {
        hash = (hash ^ bytes[place] as u64).wrapping_mul(0x100_0000_01b3);
        place += 1;
    }
    hash
}

pub(crate) async fn serve(params: RawPathParams) -> Response {
    const HEADERS: (HeaderName, &str) = (CACHE_CONTROL, "public, max-age=31536000, immutable");

    let name = params.iter().last().map(|(_, name)| name);
    let asset = [STYLESHEET, SCRIPT, ICON]
        .into_iter()
        .find(|asset| name == Some(asset.file().as_str()));
    match asset {
        Some(asset) => {
            let headers = [(CONTENT_TYPE, asset.media_type), HEADERS];
            (headers, asset.content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_stays_small() {
        assert!(SCRIPT.content.len() < 15_000, "{}", SCRIPT.content.len());
    }
}
