//! Process: a job owns what it holds, from the open source to the staged output.

pub mod claim;

pub mod read;

pub mod transform;

pub mod write;
