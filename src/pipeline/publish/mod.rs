//! Publish: the only code that makes a name durable, and what happens to the source after that.

pub mod commit;

pub mod dispose;
