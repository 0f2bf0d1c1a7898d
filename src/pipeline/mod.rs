//! The eight stages, assembled: the only module that makes their channels and starts their threads.
//! Each pipeline has its own set of stages.
//!
//! A small file (at most [`SMALL_FILE_MAX_BYTES`](crate::limits::SMALL_FILE_MAX_BYTES)) crosses process as one buffer, a large one as a
//! stream of chunks in a separate lane. The numbers on the arrows are the channels' capacities.
//!
//! ```text
//! intake      discover → settle
//!                           │ claim: 64
//! process     claim ────────┴──────────────┐
//!               │ read: 64                 │ large: 512
//!               │                        claim
//!             read                       read
//!               │ transform: 64            │ 4 chunks
//!             transform ─── grown ──────▶ transform
//!               │ write: 64                │ 4 chunks
//!             write                      write
//!               │                          │
//!               └── commit: 512 ◀──────────┘
//! publish     commit: seal
//!               │ publish: 1 batch
//!             commit: publish
//!               │ acknowledge: 1 batch
//!             commit: acknowledge
//!               │ dispose: 512   ◀── every failed job
//!             dispose ──▶ the outcome, back to settle
//! ```
//!
//! P1: closing the intake's channel is the drain: each stage ends when its input ends, in the
//! order of the flow, and so closes the next stage's input. Files that transform or a lane has not
//! begun return to the intake at once.
//! P2: a stage before commit waits for a later one only at a full channel; the outcomes, which flow
//! back, never wait. So there is no circle of waiting.
//! P3: a pipeline shares no thread, channel or permit with another.

pub mod context;

pub mod failure;

pub mod halt;

pub mod job;

pub mod circuit_breaker;

pub mod operator_pause;

pub mod in_commit;

pub mod buffer_pool;

pub mod own_paths;

pub mod channel;

pub mod outcome;

pub mod state_updates;

pub mod intake;

pub mod process;

pub mod publish;

mod budget;
mod clock;
mod codec_memory;
mod heartbeat;
mod intake_set;
mod kernel_copy;
mod output_hasher;
mod priority;
mod side_file;
mod start;
mod stream_lane;
mod wiring;

pub use intake_set::{Intakes, NoSuchPipeline, PreparedIntakes};
pub use priority::Peers;
pub use start::{Control, DrainSummary, PipelineInputs, Pipelines};
pub use wiring::CHANNELS;
