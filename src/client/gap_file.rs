//! `.gaps` in a conversation: which messages are missing (design, section 4), and in one of several which their author says will
//! not come.
//!
//! ```text
//! gap: FINGERPRINT FROM TO SINCE NAME
//! withdrawn: FINGERPRINT FROM TO SINCE NAME
//! ```

use std::fmt;

use crate::clock::Timestamp;
use crate::wire::identity::Fingerprint;

/// The file's name.
pub const FILE: &str = ".gaps";

const GAP: &str = "gap";
const WITHDRAWN: &str = "withdrawn";

/// One line: messages of one author that are missing, by their counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapLine {
    /// Their author says that they will not come.
    pub is_withdrawn: bool,
    /// The author.
    pub author: Fingerprint,
    /// The first counter.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// When it was noticed.
    pub since: Timestamp,
    /// The author's name when the line was written, escaped.
    pub name: String,
}

impl GapLine {
    /// How many these are.
    pub fn count(&self) -> u64 {
        self.to.saturating_sub(self.from).saturating_add(1)
    }

    /// Parses the file; lines that this version does not know are passed over.
    pub fn parse_all(text: &str) -> Vec<Self> {
        text.lines().filter_map(Self::parse).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let (is_withdrawn, rest) = match line.split_once(": ")? {
            (GAP, rest) => (false, rest),
            (WITHDRAWN, rest) => (true, rest),
            _ => return None,
        };
        let mut words = rest.splitn(5, ' ');
        let author = Fingerprint::from_hex(words.next()?)?;
        let (from, to) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let since = Timestamp::parse_rfc3339(words.next()?)?;
        let name = words.next()?.to_owned();
        (0 < from && from <= to).then_some(Self { is_withdrawn, author, from, to, since, name })
    }
}

impl fmt::Display for GapLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_withdrawn, author, from, to, since, name } = self;
        let what = if *is_withdrawn { WITHDRAWN } else { GAP };
        writeln!(formatter, "{what}: {author} {from} {to} {} {name}", since.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CLAIMED_RANGES_MAX, GAP_FILE_BYTES_MAX, GAPS_MAX, PARTICIPANTS_MAX, WITHDRAWN_RANGES_MAX};

    #[test]
    fn the_lines_come_back_as_written() {
        let line = |from, name: &str| GapLine {
            is_withdrawn: from == 6,
            author: Fingerprint([2; 32]),
            from,
            to: 7,
            since: Timestamp::from_micros(1_700_000_000_000_000),
            name: name.into(),
        };
        let lines = [line(5, "bob"), line(6, "bob"), line(7, "bob with a space")];
        let text: String = lines.iter().map(GapLine::to_string).collect();
        assert_eq!(GapLine::parse_all(&text), lines);
        assert_eq!(lines[0].count(), 3);
        for wrong in [line(0, "bob"), line(8, "bob")] {
            assert!(GapLine::parse_all(&wrong.to_string()).is_empty());
        }
        assert!(GapLine::parse_all("gap: 5 7\nnews: x\n").is_empty());
    }

    /// Two incarnations of each author are kept; gaps, withdrawn ranges and what each other has claimed cut each other into at most as
    /// many pieces as all of them have ends.
    #[test]
    fn the_largest_file_is_read() {
        let line = GapLine {
            is_withdrawn: true,
            author: Fingerprint([2; 32]),
            from: u64::MAX - 1,
            to: u64::MAX,
            since: Timestamp::from_micros(u64::MAX),
            // As long as a file's name may be, each byte escaped.
            name: "\\xff".repeat(255),
        };
        let ranges = GAPS_MAX + WITHDRAWN_RANGES_MAX + (PARTICIPANTS_MAX - 1) * CLAIMED_RANGES_MAX;
        let lines = (PARTICIPANTS_MAX - 1) * 2 * 2 * ranges;
        assert!((lines * line.to_string().len()) as u64 <= GAP_FILE_BYTES_MAX);
    }
}
