//! Tidemill watches a directory, compresses or transcodes each file that lands, and publishes
//! the result atomically, durably and once.
//!
//! `ARCHITECTURE.md` has the map, the invariants and their sources. Imports point down only:
//!
//! | layer | modules |
//! |---|---|
//! | 7 | `main`, [`cli`] |
//! | 6 | [`service`]: the entire life of the process on one page |
//! | 5 | [`http`] |
//! | 4 | [`pipeline`] (makes the channels, starts the stages), [`recovery`], [`queries`]: none imports another |
//! | 3 | `pipeline::{intake, process, publish}`: the eight stages |
//! | 2 | `pipeline::{job, channel}`: a file in flight, and the one loop that moves it |
//! | 2 | [`protocol`]: what is true on disk between two system calls, for pipeline, recovery and queries |
//! | 2 | [`hooks`]: a user's commands and webhooks |
//! | 1 | [`codec`], [`config`], [`sandbox`], [`fs`], [`ledger`], [`lifecycle`], [`observe`], which do not import one another |
//! | 0 | [`error`], [`limits`] and the types that all layers share: [`fingerprint`], [`policy`], [`stage`], [`transforms`] |

pub mod cli;

pub mod service;

pub mod http;

pub mod patience;
pub mod pipeline;
pub mod queries;
pub mod recovery;

pub mod protocol;

pub mod hooks;

pub mod codec;
pub mod config;
pub mod fs;
pub mod ledger;
pub mod lifecycle;
pub mod observe;
pub mod sandbox;

pub mod error;
#[doc(hidden)]
pub mod failpoint;
pub mod fingerprint;
pub mod limits;
pub mod policy;
pub mod stage;
pub mod transforms;
