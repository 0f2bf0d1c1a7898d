//! What can be seen of the service: metrics, logs, events, status, progress.
