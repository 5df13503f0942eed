//! `alerts/`: what a person must know (design, section 2). One file each, named by time and kind, whose first line says
//! what happened and whose second says what to do.

use std::path::Path;

use zeroize::Zeroizing;

use super::pending::Pending;
use super::places;
use super::root::Root;
use crate::clock::Timestamp;
use crate::wire::identity::Fingerprint;

/// Where they lie, relative to the root.
pub const DIRECTORY: &str = "alerts";

/// Alerts of one kind about one thing that may lie there unread at a time: a peer that misbehaves again and again
/// fills no disk.
const SAME_MAX: usize = 8;

/// What somebody told of somebody: both are counted.
pub fn by_word(of: &Fingerprint, teller: Option<&Fingerprint>) -> String {
    teller.map_or_else(|| of.short(8), |teller| format!("{}-{}", of.short(8), teller.short(8)))
}

/// Adds an alert to the transaction. `kind` is a word for programs, `about` tells repeats apart. False if there are as many of
/// this kind about this as may be, or where `alerts/` takes no files, which `status` says then.
pub fn raise(root: &Root, pending: &mut Pending, now: Timestamp, kind: &str, about: &str, text: &str) -> bool {
    let ending = if about.is_empty() { kind.to_owned() } else { format!("{kind}-{about}") };
    let unread = root.names(DIRECTORY).iter().filter(|name| name.to_string_lossy().ends_with(&ending)).count()
        + pending.reserved_alike(Path::new(DIRECTORY), &ending);
    tracing::warn!(kind, "alert");
    if !places::takes_files(root, Path::new(DIRECTORY)) {
        tracing::warn!(kind, "alerts/ takes no files, and the alert is lost");
        return false;
    }
    // Several of one moment stand one microsecond apart.
    let paths = (0..=SAME_MAX).map(|later| {
        let time = Timestamp::from_micros(now.micros().saturating_add(u64::try_from(later).unwrap_or(0)));
        Path::new(DIRECTORY).join(format!("{time}-{ending}"))
    });
    let free = paths.filter(|_| unread < SAME_MAX).find(|path| pending.is_free(root, path));
    let is_placed = free.is_some();
    if let Some(path) = free {
        pending.place(path, Zeroizing::new(format!("{text}\n").into_bytes()));
    }
    is_placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_of_one_moment_stand_beside_each_other_and_have_a_bound() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, mut pending) = (Root::new(scratch.path().to_owned()), Pending::default());
        let now = Timestamp::from_micros(1_790_000_000_000_000);
        let mut raise = |about: &str| raise(&root, &mut pending, now, "undeliverable", about, "text");
        let placed: Vec<bool> = (0..=SAME_MAX).map(|_| raise("bob")).collect();
        assert_eq!(placed, [vec![true; SAME_MAX], vec![false]].concat());
        assert!(raise("carol"));
    }
}
