//! Sets of counters, as ranges: a set costs what it has of these, however many counters they span.

/// Counters, as ranges that neither overlap nor touch, in rising order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// What is between two counters, with both of them.
    pub fn of(from: u64, to: u64) -> Self {
        let mut ranges = Self::default();
        ranges.add(from, to);
        ranges
    }

    /// Each range's first and last counter, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a counter is in it.
    pub fn contains(&self, counter: u64) -> bool {
        self.iter().any(|(from, to)| (from..=to).contains(&counter))
    }

    /// Adds what is between two counters, with both of them. What has no counter in it adds nothing.
    pub fn add(&mut self, from: u64, to: u64) {
        if to < from {
            return;
        }
        let (mut from, mut to) = (from, to);
        self.0.retain(|(first, last)| {
            let touches = *first <= to.saturating_add(1) && from <= last.saturating_add(1);
            if touches {
                (from, to) = (from.min(*first), to.max(*last));
            }
            !touches
        });
        let place = self.0.partition_point(|(first, _)| *first < from);
        self.0.insert(place, (from, to));
    }

    /// Adds all of another.
    pub fn add_all(&mut self, other: &Self) {
        other.iter().for_each(|(from, to)| self.add(from, to));
    }

    /// What is in this one and not in the other.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut cuts = other.0.iter().copied().peekable();
        for (first, last) in self.iter() {
            // One may reach over several of ours.
            while cuts.next_if(|(_, to)| *to < first).is_some() {}
            let mut next = Some(first);
            for (from, to) in cuts.clone().take_while(|(from, _)| *from <= last) {
                left.extend(next.filter(|next| *next < from).map(|next| (next, from - 1)));
                next = to.checked_add(1);
            }
            left.extend(next.filter(|next| *next <= last).map(|next| (next, last)));
        }
        Self(left)
    }

    /// What is in both.
    pub fn within(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    /// Where there are more ranges than that, those nearest to each other become one, with what is between them.
    pub fn widen_to(&mut self, most: usize) {
        while self.0.len() > most.max(1) {
            let room = |at: &usize| self.0[*at].0 - self.0[at - 1].1;
            let Some(nearest) = (1..self.0.len()).min_by_key(room) else { return };
            self.0[nearest - 1].1 = self.0[nearest].1;
            self.0.remove(nearest);
        }
    }

    /// Where there are more ranges than that, the lowest go.
    pub fn shorten_to(&mut self, most: usize) {
        self.0.drain(..self.0.len().saturating_sub(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(parts: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        parts.iter().for_each(|(from, to)| ranges.add(*from, *to));
        ranges
    }

    #[test]
    fn the_ends_of_all_numbers_are_counters_like_others() {
        let all = Ranges::of(0, u64::MAX);
        assert_eq!(all.without(&Ranges::of(0, 0)), Ranges::of(1, u64::MAX));
        assert_eq!(all.without(&Ranges::of(u64::MAX, u64::MAX)), Ranges::of(0, u64::MAX - 1));
        assert!(all.without(&all).is_empty());
        assert_eq!(of(&[(u64::MAX, u64::MAX), (0, 0), (5, 4)]).0, [(0, 0), (u64::MAX, u64::MAX)]);
        assert_eq!(of(&[(1, 2), (5, 6), (3, 4)]).0, [(1, 6)], "what touches is one");
    }

    #[test]
    fn more_ranges_than_a_bound_become_fewer_that_hold_more_or_less() {
        let ranges = of(&[(1, 1), (10, 10), (12, 13), (90, 99)]);
        let mut wider = ranges.clone();
        wider.widen_to(2);
        assert_eq!(wider.0, [(1, 13), (90, 99)]);
        let mut shorter = ranges.clone();
        shorter.shorten_to(2);
        assert_eq!(shorter.0, [(12, 13), (90, 99)]);
        shorter.shorten_to(3);
        assert_eq!(shorter.len(), 2);
    }

    proptest! {
        #[test]
        fn ranges_are_the_sets_that_they_say(
            one in prop::collection::vec((0..60_u64, 0..60_u64), 0..12),
            other in prop::collection::vec((0..60_u64, 0..60_u64), 0..12),
        ) {
            let set = |parts: &[(u64, u64)]| parts.iter().flat_map(|(from, to)| *from..=*to).collect::<BTreeSet<u64>>();
            let (a, b) = (set(&one), set(&other));
            let (one, other) = (of(&one), of(&other));
            let mut both = one.clone();
            both.add_all(&other);
            for (ranges, expected) in [
                (one.clone(), a.clone()),
                (both, &a | &b),
                (one.without(&other), &a - &b),
                (one.within(&other), &a & &b),
            ] {
                prop_assert_eq!(set(&ranges.0), expected.clone());
                prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", ranges);
                prop_assert!((0..61).all(|counter| ranges.contains(counter) == expected.contains(&counter)));
            }
        }
    }
}
