//! Latency of files from settle to acknowledgement, counted in buckets of an eighth of a doubling.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Buckets per doubling: a quantile is exact to 1/8.
const BUCKETS_PER_DOUBLING: u32 = 8;
/// From 1 µs to `2^36` µs, which is 19 hours; longer times count in the last bucket.
const DOUBLINGS: u32 = 36;
const COUNTS: usize = (BUCKETS_PER_DOUBLING * DOUBLINGS) as usize;

/// Bucket counts. One sample costs the hot path one atomic addition.
#[derive(Debug)]
pub struct Latency(Box<[AtomicU64]>);

/// Bucket counts at one moment. The difference of two covers the time between them.
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

/// Returns the bucket of a time: the highest bit gives the doubling, the next three bits the step.
fn index(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let doubling = micros.ilog2();
    let below = if doubling >= 3 { micros >> (doubling - 3) } else { micros << (3 - doubling) };
    let step = u32::try_from(below & u64::from(BUCKETS_PER_DOUBLING - 1)).unwrap_or(0);
    usize::try_from(doubling * BUCKETS_PER_DOUBLING + step).unwrap_or(COUNTS).min(COUNTS - 1)
}

/// Returns the upper bound of a bucket, in seconds.
fn upper(index: usize) -> f64 {
    let index = u32::try_from(index).unwrap_or(0);
    let (doubling, step) = (index / BUCKETS_PER_DOUBLING, index % BUCKETS_PER_DOUBLING);
    let micros = f64::from(BUCKETS_PER_DOUBLING + step + 1) / f64::from(BUCKETS_PER_DOUBLING)
        * f64::from(doubling).exp2();
    micros / 1e6
}

impl Counts {
    /// Returns the counts added since `earlier`.
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

    /// Returns the time in seconds within which this share of the files finished, or `None` for no files.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.0.iter().sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "a count of files, and a share of it"
        )]
        let rank = ((all as f64 * share).ceil() as u64).max(1);
        let mut counted = 0;
        let index = self.0.iter().position(|count| {
            counted += count;
            counted >= rank
        });
        index.filter(|_| all > 0).map(upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_exact_to_an_eighth() {
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
    fn only_later_samples_count() {
        let latency = Latency::default();
        latency.add(Duration::from_secs(100));
        let before = latency.counts();
        assert_eq!(latency.counts().since(&before).quantile(0.5), None);
        latency.add(Duration::from_millis(1));
        let median = latency.counts().since(&before).quantile(0.5).expect("one");
        assert!((0.001..0.0012).contains(&median), "{median}");
    }

    #[test]
    fn every_time_has_a_bucket_and_longer_times_no_lower_one() {
        let mut last = 0;
        for doubling in 0..64 {
            let index = index(Duration::from_nanos(1 << doubling));
            assert!(index >= last && index < COUNTS);
            last = index;
        }
        assert_eq!(index(Duration::MAX), COUNTS - 1);
    }
}
