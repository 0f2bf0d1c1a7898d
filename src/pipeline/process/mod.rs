//! Process: claim, read, transform and write. Each job owns its resources, from the open source to
//! the staged output.

pub mod claim;

pub mod read;

pub mod transform;

pub mod write;
