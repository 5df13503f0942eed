//! What was found. However much is wrong, only so much of one kind is kept; the rest is counted.

use std::path::{Path, PathBuf};

use crate::limits::FINDINGS_LISTED_MAX;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Something does not work, or was lost.
    Error,
    /// It should be looked at.
    Warning,
    /// It is as it may be.
    Note,
}

impl Severity {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One finding.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// A word for programs.
    pub(super) kind: &'static str,
    /// Relative to the root; empty for the root itself.
    pub(super) path: PathBuf,
    /// What is wrong, as it stands behind a colon.
    pub(super) problem: String,
    /// What to do: a sentence or two.
    pub(super) remedy: String,
    /// Whether it was mended just now.
    pub(super) repaired: bool,
}

/// Findings that are alike.
#[derive(Debug)]
pub(super) struct Group {
    /// The first of them.
    pub(super) listed: Vec<Finding>,
    /// How many there are.
    pub(super) count: usize,
}

impl Group {
    /// What they have in common.
    pub(super) fn first(&self) -> Option<&Finding> {
        self.listed.first()
    }

    /// How many are not listed.
    pub(super) fn more(&self) -> usize {
        self.count - self.listed.len()
    }

    fn is_like(&self, other: &Finding) -> bool {
        let alike =
            |one: &Finding| (one.severity, one.kind, one.repaired) == (other.severity, other.kind, other.repaired);
        self.first().is_some_and(alike)
    }
}

/// All findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    groups: Vec<Group>,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        match self.groups.iter_mut().find(|group| group.is_like(&finding)) {
            Some(group) => {
                group.count += 1;
                if group.listed.len() < FINDINGS_LISTED_MAX {
                    group.listed.push(finding);
                }
            }
            None => self.groups.push(Group { listed: vec![finding], count: 1 }),
        }
    }

    /// Whether something of this kind is listed about this path.
    pub(super) fn has(&self, kind: &str, path: &Path) -> bool {
        let mut listed = self.groups.iter().flat_map(|group| &group.listed);
        listed.any(|finding| finding.kind == kind && finding.path == path)
    }

    /// Whether one of them is an error.
    pub(super) fn has_error(&self, kind: &str, path: &Path) -> bool {
        let mut listed = self.groups.iter().flat_map(|group| &group.listed);
        listed.any(|finding| (finding.severity, finding.kind) == (Severity::Error, kind) && finding.path == path)
    }

    /// Groups by severity, otherwise in the order in which they were found; what was mended comes last.
    pub(super) fn groups(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        groups.sort_by_key(|group| group.first().map(|finding| (finding.repaired, finding.severity)));
        groups
    }

    /// How many of this severity are left.
    pub(super) fn count(&self, severity: Severity) -> usize {
        self.sum(|finding| finding.severity == severity && !finding.repaired)
    }

    /// How many were mended.
    pub(super) fn repaired(&self) -> usize {
        self.sum(|finding| finding.repaired)
    }

    fn sum(&self, counts: impl Fn(&Finding) -> bool) -> usize {
        self.groups.iter().filter(|group| group.first().is_some_and(&counts)).map(|group| group.count).sum()
    }

    /// Whether neither error nor warning is left.
    pub(super) fn is_healthy(&self) -> bool {
        self.count(Severity::Error) == 0 && self.count(Severity::Warning) == 0
    }

    /// Takes those of `other` behind ours.
    pub(super) fn append(&mut self, other: Self) {
        for group in other.groups {
            let unlisted = group.more();
            let like = group.first().cloned();
            group.listed.into_iter().for_each(|finding| self.add(finding));
            let mine = like.and_then(|like| self.groups.iter_mut().find(|group| group.is_like(&like)));
            mine.into_iter().for_each(|group| group.count += unlisted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: &'static str, severity: Severity) -> Finding {
        let (problem, remedy) = (String::new(), String::new());
        Finding { severity, kind, path: PathBuf::new(), problem, remedy, repaired: false }
    }

    #[test]
    fn only_the_first_of_a_kind_are_kept_and_all_are_counted() {
        let mut findings = Findings::default();
        (0..1_000).for_each(|_| findings.add(finding("mode", Severity::Warning)));
        findings.add(finding("mode", Severity::Error));
        let mut others = Findings::default();
        (0..1_000).for_each(|_| others.add(finding("mode", Severity::Warning)));
        findings.append(others);
        let groups = findings.groups();
        assert_eq!(groups.iter().map(|group| group.listed.len()).collect::<Vec<_>>(), [1, FINDINGS_LISTED_MAX]);
        assert_eq!((findings.count(Severity::Error), findings.count(Severity::Warning)), (1, 2_000));
        assert_eq!(groups[1].more(), 2_000 - FINDINGS_LISTED_MAX);
    }
}
