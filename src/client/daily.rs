//! How often somebody may have something in a day, in this run.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::wire::identity::Fingerprint;

const DAY_S: u64 = 86_400;

/// How often each has had it today.
#[derive(Debug, Default)]
pub struct Daily {
    day: u64,
    counts: HashMap<Fingerprint, usize>,
}

impl Daily {
    /// Once more for somebody. True if they have not had it more than `limit` times today.
    pub fn takes(&mut self, whose: Fingerprint, limit: usize, now: Timestamp) -> bool {
        let day = now.seconds() / DAY_S;
        if day != self.day {
            *self = Self { day, counts: HashMap::new() };
        }
        let count = self.counts.entry(whose).or_default();
        *count += 1;
        *count <= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_it_so_often_in_a_day_and_on_the_next_again() {
        let (mut daily, now) = (Daily::default(), Timestamp::from_micros(1_790_000_000_000_000));
        let [one, other] = [1, 2].map(|byte| Fingerprint([byte; 32]));
        assert_eq!([1, 2, 3].map(|_| daily.takes(one, 2, now)), [true, true, false]);
        assert!(daily.takes(other, 2, now));
        let tomorrow = Timestamp::from_micros(now.micros() + DAY_S * 1_000_000);
        assert!(daily.takes(one, 2, tomorrow));
    }
}
