//! Tidemill watches a directory, compresses or transcodes each file that lands, and publishes
//! each result exactly once, atomically and durably.
//!
//! `ARCHITECTURE.md` has the map, the invariants and their sources. Imports point down only:
//!
//! | layer | modules |
//! |---|---|
//! | 8 | `main`, [`cli`] |
//! | 7 | [`service`]: the entire life of the process on one page |
//! | 6 | [`http`] |
//! | 5 | [`pipeline`] (makes the channels, starts the stages), [`recovery`], [`queries`]: none imports another |
//! | 4 | `pipeline::{intake, process, publish}`: the eight stages |
//! | 3 | `pipeline::{job, channel}`: a file in flight, and the one loop that moves it |
//! | 3 | [`protocol`]: what is true on disk between two system calls, for pipeline, recovery and queries |
//! | 3 | [`hooks`]: a user's commands and webhooks; [`exec`]: a user's programs as transforms |
//! | 2 | [`source`]: the port of a pipeline's input, and its implementation for a directory |
//! | 2 | [`sink`]: the port to the place of the outputs, and the local directory behind it |
//! | 1 | [`config`], [`sandbox`], [`fs`], [`ledger`], [`observe`], which do not import one another |
//! | 0 | [`error`], [`limits`] and the types that all layers share: [`fingerprint`], [`policy`], [`stage`], [`transforms`] |
//!
//! Start and stop are in a crate of their own, [`tidemill_lifecycle`], for layers 3 and above.

/// Runs each test of a suite on the implementation in memory, and on another one with a directory.
#[cfg(test)]
macro_rules! conformance {
    ($store:ty, $other:ident: $($name:ident)+) => {
        mod memory {
            $(#[test]
            fn $name() {
                super::$name(&<$store>::default());
            })+
        }

        mod $other {
            $(#[test]
            fn $name() {
                super::$name(&tempfile::tempdir().expect("temporary directory"));
            })+
        }
    };
}

pub mod cli;

pub mod service;

pub mod http;

pub mod patience;
pub mod pipeline;
pub mod queries;
pub mod recovery;

pub mod protocol;

pub mod api;

pub mod sink;
pub mod source;

pub mod exec;
pub mod hooks;

pub mod config;
pub mod fs;
pub mod ledger;
pub mod observe;
pub mod sandbox;

pub mod display_path;
pub mod error;
#[doc(hidden)]
pub mod failpoint;
pub mod fingerprint;
pub mod limits;
pub mod outcome;
mod page_cache;
pub mod phase;
pub mod policy;
pub mod reason;
pub mod stage;
pub mod sync;
pub mod transforms;
