//! Random waits: the delay of one recipient of a message to several, and the interval between two slots of a schedule.
//! Randomness is handed in.

use std::time::Duration;

use rand_core::RngCore;

/// A time from zero up to `longest`, each as likely.
pub fn delay(longest: Duration, rng: &mut impl RngCore) -> Duration {
    longest.mul_f64(fraction(rng))
}

/// An exponentially distributed time with this mean: what has passed since the last slot says nothing of when the next one
/// comes. At most 37 times the mean.
pub fn interval(mean: Duration, rng: &mut impl RngCore) -> Duration {
    mean.mul_f64(-(1.0 - fraction(rng)).ln())
}

/// A number in [0, 1): 53 bits, as many as its type holds, so that 1 is never rounded up to.
fn fraction(rng: &mut impl RngCore) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "53 bits are held exactly")]
    let bits = (rng.next_u64() >> 11) as f64;
    bits / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::super::schedules::Dice;
    use super::*;

    const COUNT: u32 = 20_000;

    fn seconds(draw: impl FnMut() -> Duration) -> Vec<f64> {
        std::iter::repeat_with(draw).take(COUNT as usize).map(|time| time.as_secs_f64()).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / f64::from(COUNT)
    }

    /// Of values that follow each other, how much one tells of the next: -1 to 1.
    fn correlation(values: &[f64]) -> f64 {
        let mean = mean(values);
        let of = |one: f64, other: f64| (one - mean) * (other - mean);
        let together: f64 = values.windows(2).map(|pair| of(pair[0], pair[1])).sum();
        together / values.iter().map(|value| of(*value, *value)).sum::<f64>()
    }

    fn share(values: &[f64], holds: impl Fn(f64) -> bool) -> f64 {
        let count = values.iter().filter(|value| holds(**value)).count();
        f64::from(u32::try_from(count).unwrap()) / f64::from(COUNT)
    }

    fn is_about(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 0.02
    }

    #[test]
    fn delays_are_uniform_up_to_their_bound_and_independent_of_each_other() {
        let mut dice = Dice::new(1);
        let delays = seconds(|| delay(Duration::from_secs(1), &mut dice));
        assert!(delays.iter().all(|delay| (0.0..1.0).contains(delay)));
        for tenth in 0..10 {
            let from = f64::from(tenth) / 10.0;
            let share = share(&delays, |delay| (from..from + 0.1).contains(&delay));
            assert!(is_about(share, 0.1), "{share} from {from} on");
        }
        assert!(is_about(correlation(&delays), 0.0), "{}", correlation(&delays));
        assert_eq!(delay(Duration::ZERO, &mut dice), Duration::ZERO);
    }

    #[test]
    fn intervals_are_exponential_and_independent_of_each_other() {
        let mut dice = Dice::new(2);
        let intervals = seconds(|| interval(Duration::from_secs(1), &mut dice));
        assert!(is_about(mean(&intervals), 1.0), "{}", mean(&intervals));
        // Also among those that took longer than a while: they have no memory.
        for (from, expected) in [(0.5, 0.607), (1.0, 0.368), (2.0, 0.135), (3.0, 0.050)] {
            let share = share(&intervals, |interval| interval > from);
            assert!(is_about(share, expected), "{share} are above {from}");
        }
        assert!(is_about(correlation(&intervals), 0.0), "{}", correlation(&intervals));
    }

    #[test]
    fn the_extremes_of_randomness_are_times_too() {
        struct Constant(u64);
        impl RngCore for Constant {
            fn next_u32(&mut self) -> u32 {
                rand_core::impls::next_u32_via_fill(self)
            }
            fn next_u64(&mut self) -> u64 {
                self.0
            }
            fn fill_bytes(&mut self, bytes: &mut [u8]) {
                rand_core::impls::fill_bytes_via_next(self, bytes);
            }
            fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
                self.fill_bytes(bytes);
                Ok(())
            }
        }
        let hour = Duration::from_secs(3_600);
        assert_eq!(interval(hour, &mut Constant(0)), Duration::ZERO);
        assert!(interval(hour, &mut Constant(u64::MAX)) < 37 * hour);
        assert!(delay(hour, &mut Constant(u64::MAX)) <= hour);
    }
}
