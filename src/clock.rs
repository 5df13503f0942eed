//! Points in time, in microseconds since 1970 (UTC), and how they are written in names.
//!
//! Nothing below the daemons reads a clock: a [`Timestamp`] is passed in. [`Timestamp::now`] is for the top floors.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Microseconds since 1970-01-01T00:00:00Z. Displays as `2026-11-22T101530.123456Z` (design, section 2: UTC with
/// microseconds and without colons), so that names sort by time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// 9999-12-31T23:59:59.999999Z: what a four-digit year can hold. Later times are clamped to it.
const LAST_MICROSECOND: u64 = 253_402_300_799_999_999;

/// The length of a time as it is written in names.
const NAME_BYTES: usize = 25;

/// Milliseconds since the machine was started, also those in which it slept. Nobody can set it.
pub fn uptime_ms() -> u64 {
    let since = clock_gettime(ClockId::Boottime);
    u64::try_from(since.tv_sec).unwrap_or(0).saturating_mul(1_000)
        + u64::try_from(since.tv_nsec / 1_000_000).unwrap_or(0)
}

impl Timestamp {
    /// The given microseconds since 1970; later than the year 9999 is clamped.
    pub fn from_micros(micros: u64) -> Self {
        Self(micros.min(LAST_MICROSECOND))
    }

    /// What the system's clock says. A clock before 1970 counts as 1970.
    pub fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_micros(u64::try_from(since_1970.as_micros()).unwrap_or(LAST_MICROSECOND))
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The next microsecond.
    pub fn next(self) -> Self {
        Self::from_micros(self.0.saturating_add(1))
    }

    /// So much later.
    pub fn after(self, time: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Milliseconds from `earlier` to here; 0 if `earlier` is later.
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }

    /// `2026-11-22`, the day in UTC.
    pub fn date(self) -> String {
        self.to_string().chars().take(10).collect()
    }

    /// `2026-11-22T10:15:30.123456Z` (RFC 3339), for files that programs parse.
    pub fn rfc3339(self) -> String {
        humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_micros(self.0)).to_string()
    }

    /// The time that a message's name begins with, as in `2026-11-22T101530.123456Z-alice`; none if it is no message.
    pub fn of_name(name: &str) -> Option<Self> {
        let (time, rest) = name.split_at_checked(NAME_BYTES)?;
        let colons = format!("{}:{}:{}", time.get(..13)?, time.get(13..15)?, time.get(15..)?);
        rest.starts_with('-').then(|| Self::parse_rfc3339(&colons))?
    }

    /// Reads RFC 3339 with `Z`.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let time = humantime::parse_rfc3339(text).ok()?;
        let micros = time.duration_since(UNIX_EPOCH).ok()?.as_micros();
        Some(Self::from_micros(u64::try_from(micros).ok()?))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.rfc3339().replace(':', ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_without_colons_and_sort_as_text() {
        let time = Timestamp::parse_rfc3339("2026-11-22T10:15:30.123456Z").unwrap();
        assert_eq!(time.to_string(), "2026-11-22T101530.123456Z");
        assert_eq!(time.date(), "2026-11-22");
        assert!(time.to_string() < time.next().to_string());
    }

    #[test]
    fn the_far_future_is_clamped_to_four_digit_years() {
        assert_eq!(Timestamp::from_micros(u64::MAX).to_string(), "9999-12-31T235959.999999Z");
        assert_eq!(Timestamp::from_micros(u64::MAX).next(), Timestamp::from_micros(u64::MAX));
    }
}
