//! How long files took, from settled to acknowledged, as counts in steps of an eighth of a doubling.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Steps for each doubling: a quantile is right to 1/8.
const STEPS: u32 = 8;
/// From one microsecond to `2^36` of them, which is 19 hours; what is longer counts as that.
const DOUBLINGS: u32 = 36;
const COUNTS: usize = (STEPS * DOUBLINGS) as usize;

/// Adding one is one addition to one counter, so that the hot path does not feel it.
#[derive(Debug)]
pub struct Latency(Box<[AtomicU64]>);

/// The counts at one moment; the difference of two is what happened between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self((0..COUNTS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Latency {
    pub fn add(&self, took: Duration) {
        if let Some(count) = self.0.get(index(took)) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub fn counts(&self) -> Counts {
        Counts(self.0.iter().map(|count| count.load(Relaxed)).collect())
    }
}

/// Which step a time belongs to: the doubling by the highest bit, the step by the three below it.
fn index(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let doubling = micros.ilog2();
    let below = if doubling >= 3 { micros >> (doubling - 3) } else { micros << (3 - doubling) };
    let step = u32::try_from(below & u64::from(STEPS - 1)).unwrap_or(0);
    usize::try_from(doubling * STEPS + step).unwrap_or(COUNTS).min(COUNTS - 1)
}

/// The upper end of a step, in seconds.
fn upper(index: usize) -> f64 {
    let index = u32::try_from(index).unwrap_or(0);
    let (doubling, step) = (index / STEPS, index % STEPS);
    let micros = f64::from(STEPS + step + 1) / f64::from(STEPS) * f64::from(doubling).exp2();
    micros / 1e6
}

impl Counts {
    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.0.iter().copied().chain(std::iter::repeat(0));
        Self(self.0.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect())
    }

    pub fn add(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum += more;
        }
    }

    /// The time in seconds that this share of the files took at most; none where there are none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.0.iter().sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "a count of files, and a share of it"
        )]
        let wanted = ((all as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let index = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        index.filter(|_| all > 0).map(upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_to_an_eighth() {
        let latency = Latency::default();
        for micros in 1..=1000 {
            latency.add(Duration::from_micros(micros * 100));
        }
        let counts = latency.counts();
        for (share, seconds) in [(0.5, 0.05), (0.99, 0.099)] {
            let found = counts.quantile(share).expect("there are some");
            assert!(found >= seconds && found <= seconds * 1.126, "{share}: {found}");
        }
    }

    #[test]
    fn only_what_was_added_since_counts() {
        let latency = Latency::default();
        latency.add(Duration::from_secs(100));
        let before = latency.counts();
        assert_eq!(latency.counts().since(&before).quantile(0.5), None);
        latency.add(Duration::from_millis(1));
        let median = latency.counts().since(&before).quantile(0.5).expect("one");
        assert!((0.001..0.0012).contains(&median), "{median}");
    }

    #[test]
    fn every_time_has_its_step_and_longer_ones_have_no_lower() {
        let mut last = 0;
        for doubling in 0..64 {
            let index = index(Duration::from_nanos(1 << doubling));
            assert!(index >= last && index < COUNTS);
            last = index;
        }
        assert_eq!(index(Duration::MAX), COUNTS - 1);
    }
}
