//! How far a large content is, in words.

/// Hundredths of the whole, rounded down: 100 is all of it.
pub fn percent(done: u64, total: u64) -> u64 {
    u64::try_from(u128::from(done) * 100 / u128::from(total.max(1))).unwrap_or(100)
}

/// A number of bytes for people: `64.0 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        // Tenths, rounded down: what is not whole is not called so.
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

/// `45% of 64.0 MiB`.
pub fn of_whole(done: u64, total: u64) -> String {
    format!("{}% of {}", percent(done, total), size(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_down_and_only_all_is_a_hundred() {
        assert_eq!(of_whole(30_198_988, 67_108_864), "44% of 64.0 MiB");
        assert_eq!(of_whole(67_108_863, 67_108_864), "99% of 64.0 MiB");
        assert_eq!(of_whole(0, 10_241), "0% of 10.0 KiB");
        assert_eq!(size(1_073_741_823), "1023.9 MiB");
        assert_eq!(size(8 << 30), "8.0 GiB");
        assert_eq!(size(1_023), "1023 bytes");
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}
