//! The HTTP server: metrics, probes, status.
