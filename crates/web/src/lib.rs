//! A page that shows a Runtrail history in a browser, as an axum router.
//!
//! [`router`] reads any [`History`](runtrail_audit::History), and never writes to it. A host mounts
//! the router at a path of its own, and decides by its [`Access`] who may see what. The page works
//! without JavaScript, apart from live updates and keyboard shortcuts, and loads nothing from other
//! hosts.

mod access;
mod options;

mod availability;
mod error;
mod headers;
mod route;
mod router;
mod url;
mod visitor;

mod api;
mod assets;
mod content;
mod filters;
mod format;
mod keys;
mod layout;
mod live;
mod pages;
mod period;

/// Runs the README's examples as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use access::{Access, FullAccess, Grant, Restriction};
pub use options::WebOptions;
pub use router::router;
