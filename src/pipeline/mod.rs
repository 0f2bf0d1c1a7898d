//! The eight steps, assembled.
