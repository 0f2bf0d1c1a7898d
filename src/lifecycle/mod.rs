//! Ordered start-up and clean-up, tracked tasks, phases and signals: a small library of its own.
