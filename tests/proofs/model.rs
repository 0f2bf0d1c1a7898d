//! Random sequences of what producers, consumers, other programs and the service itself may do,
//! against a plain model of what must be true; see `model/truth.rs` for the model.
//!
//! A case is a policy for the source, one for the name, a file system that publishes by renames or by
//! links, directories on file systems in user space, and some steps: files are made, moved in,
//! rewritten, appended to, begun under temporary names and
//! renamed, delivered again, removed; the policy changes, and files are to be processed again; outputs are taken away or their names are taken; the
//! service runs, meets a file system that hangs or is full, is killed at a failpoint, in recovery
//! or at any instant, or is drained; another program writes to the same events file, and holds the
//! ledger; the file systems in user space are slow, and hang for a moment. What must
//! be true is asked after each step; at the end everything is done, and a further run changes
//! nothing.
//!
//! The long form, and another seed (a failure prints the fewest steps that still fail):
//!
//! ```text
//! PROVE_COUNT=5000 PROVE_SEED=7 cargo nextest run --locked --features failpoints --test proofs model::
//! ```

#![cfg(feature = "failpoints")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]
#![expect(clippy::disallowed_methods, reason = "the model is the users who move and remove files")]

mod hands;
mod steps;
mod truth;
mod world;

use std::cell::RefCell;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::prove;
use world::{Figures, World};

/// Tries of fewer steps, once a case failed.
const SHRINKS: u32 = 400;

#[test]
fn whatever_anyone_does_nothing_is_lost_doubled_or_partly_visible() {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&prove::seed().to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let cases = u32::try_from(prove::count(80)).expect("a count");
    let config =
        Config { cases, max_shrink_iters: SHRINKS, failure_persistence: None, ..Config::default() };
    let figures = RefCell::new(Figures::default());
    let mut runner = TestRunner::new_with_rng(config, rng);
    let proved = runner.run(&steps::case(), |case| {
        let Some(mut world) = World::new(&case) else { return Ok(()) };
        for step in &case.steps {
            world.take(step);
            world.assert_true();
        }
        world.assert_done();
        figures.borrow_mut().add(world.figures());
        Ok(())
    });
    if let Err(error) = proved {
        panic!("{error}");
    }
    let Figures { steps, starts, kills, published, taken, quarantined, redelivered, reprocessed } =
        *figures.borrow();
    prove::report(
        "model",
        &[
            ("cases", &cases),
            ("steps", &steps),
            ("starts", &starts),
            ("kills", &kills),
            ("published", &published),
            ("taken_by_consumers", &taken),
            ("quarantined", &quarantined),
            ("redelivered", &redelivered),
            ("reprocessed", &reprocessed),
            ("violations", &0),
        ],
    );
    assert!(kills > 0 && published > 0 && taken > 0 && quarantined > 0, "nothing was proved");
    assert!(redelivered + reprocessed > 0, "nothing came again");
}
