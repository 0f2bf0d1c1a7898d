//! What watches the service: rules, alerts and the dashboard of `deploy/`, by the tools that use
//! them, on a service that runs.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod dashboard;
mod names;
#[cfg(feature = "otlp")]
mod otlp;
mod prometheus;
mod rules;
mod service;
