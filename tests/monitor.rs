//! What watches the service: rules, alerts and the dashboard of `deploy/`, by the tools that use
//! them, on a service that runs.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[path = "support/prove.rs"]
mod prove;

#[path = "monitor/dashboard.rs"]
mod dashboard;
#[path = "support/mounts.rs"]
#[expect(dead_code, reason = "not every proof uses all of it")]
mod mounts;
#[path = "monitor/names.rs"]
mod names;
#[cfg(feature = "otlp")]
#[path = "monitor/otlp.rs"]
mod otlp;
#[path = "monitor/prometheus.rs"]
mod prometheus;
#[path = "monitor/rules.rs"]
mod rules;
#[path = "monitor/service.rs"]
mod service;
