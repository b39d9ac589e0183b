//! How long things took: a histogram with buckets that widen with the value, so that percentiles are exact to 0.8 %.

use super::clock::Nanos;
use super::report::Value;

/// Buckets of one power of two, as a power of two.
const FINE_BITS: u32 = 7;
const FINE: usize = 1 << FINE_BITS;
/// Longer times count as this long: 2^41 ns are 36 minutes.
const POWERS: usize = 42 - FINE_BITS as usize;

/// Counts of times. Adding one costs a few instructions and no allocation.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u128,
    min: Nanos,
    max: Nanos,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; FINE * (POWERS + 1)], count: 0, sum: 0, min: Nanos::MAX, max: 0 }
    }
}

fn bucket(value: Nanos) -> usize {
    if value < FINE as Nanos {
        return value as usize;
    }
    let power = value.ilog2() - FINE_BITS;
    let fine = (value >> power) as usize & (FINE - 1);
    (power as usize + 1) * FINE + fine
}

/// The middle of a bucket.
fn middle(bucket: usize) -> Nanos {
    if bucket < FINE {
        return bucket as Nanos;
    }
    let power = bucket / FINE - 1;
    let start = ((FINE + bucket % FINE) as Nanos) << power;
    start + (1 << power) / 2
}

impl Histogram {
    /// Counts one time.
    #[inline]
    pub fn add(&mut self, value: Nanos) {
        let place = bucket(value).min(self.buckets.len() - 1);
        if let Some(count) = self.buckets.get_mut(place) {
            *count += 1;
        }
        self.count += 1;
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        (self.count, self.sum, self.min, self.max) = (0, 0, Nanos::MAX, 0);
    }

    /// The time that `per_mille` of 1000 did not exceed; 0 when there are none.
    pub fn percentile(&self, per_mille: u64) -> Nanos {
        let wanted = (u128::from(self.count) * u128::from(per_mille)).div_ceil(1_000).max(1);
        let mut seen = 0_u128;
        for (place, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= wanted {
                return middle(place).clamp(self.min, self.max);
            }
        }
        if self.count == 0 { 0 } else { self.max }
    }

    /// `n`, `min`, `mean`, `p50`, `p90`, `p99`, `p999`, `max`, in microseconds; `None` without any times.
    pub fn summary(&self) -> Option<Value> {
        if self.count == 0 {
            return None;
        }
        let mean = (self.sum / u128::from(self.count)) as Nanos;
        Some(Value::Map(vec![
            ("n", Value::Integer(self.count)),
            ("min", Value::micros(self.min)),
            ("mean", Value::micros(mean)),
            ("p50", Value::micros(self.percentile(500))),
            ("p90", Value::micros(self.percentile(900))),
            ("p99", Value::micros(self.percentile(990))),
            ("p999", Value::micros(self.percentile(999))),
            ("max", Value::micros(self.max)),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_values_to_one_percent() {
        let mut histogram = Histogram::default();
        let mut values: Vec<Nanos> = (0..10_000_u64).map(|i| (i * i * 7 + i * 13) % 90_000_000).collect();
        for value in &values {
            histogram.add(*value);
        }
        values.sort_unstable();
        for per_mille in [1, 10, 500, 900, 990, 999, 1_000] {
            let exact = values[(values.len() * per_mille as usize).div_ceil(1_000) - 1];
            let found = histogram.percentile(per_mille);
            assert!(found.abs_diff(exact) <= exact / 100, "{per_mille}: {found} for {exact}");
        }
    }

    #[test]
    fn every_value_falls_into_a_bucket_whose_middle_is_near() {
        for value in (0..41).flat_map(|power| [(1_u64 << power) - 1, 1 << power, (1 << power) + 1]) {
            let middle = middle(bucket(value));
            assert!(middle.abs_diff(value) <= value / 128, "{value} is near {middle}");
        }
    }

    #[test]
    fn values_beyond_the_last_bucket_are_counted_there() {
        let mut histogram = Histogram::default();
        histogram.add(Nanos::MAX);
        histogram.add(1);
        assert_eq!(
            (histogram.count, histogram.percentile(1_000), histogram.percentile(1)),
            (2, middle(FINE * (POWERS + 1) - 1), 1)
        );
        histogram.clear();
        assert_eq!((histogram.percentile(500), histogram.summary()), (0, None));
    }
}
