//! How much a proof does, and from which seed: the short form runs with the tests, the long form is
//! the same test with a larger count (`tests/prove`).

use std::{env, fmt::Display, str::FromStr};

/// The seed of every proof, unless `PROVE_SEED` names another.
pub const SEED: u64 = 20_261_124;

/// How much is asked for: `PROVE_COUNT`, or what the short form does.
pub fn count(short: usize) -> usize {
    number("PROVE_COUNT").unwrap_or(short)
}

/// The most time for what takes at most `aim` on a quiet machine: the short form runs with the tests.
pub fn allowed(aim: std::time::Duration) -> std::time::Duration {
    if env::var_os("PROVE_COUNT").is_some() { aim } else { aim + std::time::Duration::from_secs(8) }
}

/// The seed that is asked for.
pub fn seed() -> u64 {
    number("PROVE_SEED").unwrap_or(SEED)
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{name} is to be a number, and is {text:?}");
    number
}

/// The line that a proof ends with: what was done, so that the figure can be read off.
pub fn report(name: &str, figures: &[(&str, &dyn Display)]) {
    let mut line = format!("proved: {name} seed={}", seed());
    for (what, figure) in figures {
        line.push_str(&format!(" {what}={figure}"));
    }
    println!("{line}");
}

/// A privilege or a program is missing: printed, and a failure where `PROVE_ALL` is set, as CI
/// does.
pub fn skipped(name: &str, reason: &str) {
    assert!(env::var_os("PROVE_ALL").is_none(), "{name} was skipped: {reason}");
    println!("SKIPPED: {name}: {reason}");
}

/// A small generator, SplitMix64: the same numbers for the same seed, everywhere (Steele, Lea and
/// Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `below`, which is not 0.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}
