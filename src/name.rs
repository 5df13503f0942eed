//! Names of files and directories (design, section 2): what is legal, how bytes are escaped, how names are built,
//! shortened and ordered.
//!
//! Names are for people; programs read `.delivery/` and `metadata.toml`. Still no name may lie: whatever comes from
//! another machine is percent-escaped where it could leave its directory, hide, or change how a terminal shows it.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::str::Bytes;

use sha2::{Digest, Sha256};

/// `NAME_MAX` of every Linux filesystem.
pub const NAME_BYTES_MAX: usize = 255;

/// An account's own name at most: short enough that several fit a directory's name.
pub const ACCOUNT_NAME_BYTES_MAX: usize = 64;

/// Numbered names (`-2`, `-3`, …) tried for a file whose name is taken. Nobody has this many by accident.
pub const NAME_TRIES_MAX: u32 = 10_000;

/// The same for what others send, before its id is put into its name: each try is a look at the disk, and whoever sends any
/// number of messages of one time makes each of them look no longer than the first ones.
pub const FOREIGN_NAME_TRIES_MAX: u32 = 16;

/// Room kept free behind a name for `-2`, `-3`, … on a collision.
const COLLISION_BYTES: usize = 11;

/// Whether `name` may be an account's own: 1 to 64 of `a-z 0-9 . _ -`, starting with a letter or digit.
pub fn is_account_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    first && name.len() <= ACCOUNT_NAME_BYTES_MAX && name.bytes().all(legal)
}

/// Percent-escapes every byte of `raw` that is unsafe in a name: `/`, `%`, `,`, control characters, characters that
/// reorder text or hide, bytes that are not UTF-8, and a first `.` or `-`. [`unescape`] is the way back.
pub fn escape(raw: &[u8]) -> String {
    let mut escaped = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        for character in chunk.valid().chars() {
            let first = escaped.is_empty() && matches!(character, '.' | '-');
            if first || is_unsafe(character) {
                let mut buffer = [0; 4];
                character.encode_utf8(&mut buffer).bytes().for_each(|byte| push_escaped(&mut escaped, byte));
            } else {
                escaped.push(character);
            }
        }
        chunk.invalid().iter().for_each(|byte| push_escaped(&mut escaped, *byte));
    }
    escaped
}

/// A path for people, on one line: like [`escape_path`], but with commas as they are. [`unescape`] gives the path back.
pub fn shown_path(path: &Path) -> String {
    escape_path(path).replace("%2C", ",")
}

/// [`escape`] for each part of a relative path.
pub fn escape_path(path: &Path) -> String {
    let parts: Vec<String> = path.iter().map(|part| escape(part.as_bytes())).collect();
    parts.join("/")
}

fn push_escaped(escaped: &mut String, byte: u8) {
    escaped.push_str(&format!("%{byte:02X}"));
}

/// Whether a character can end a line, steer a terminal, hide, or leave a directory.
pub fn is_unsafe(character: char) -> bool {
    let invisible = matches!(character,
        '\u{00ad}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    matches!(character, '/' | '%' | ',') || character.is_control() || invisible
}

/// The bytes that [`escape`] was given. A `%` that no two hex digits follow stands for itself.
pub fn unescape(escaped: &str) -> Vec<u8> {
    let bytes = escaped.as_bytes();
    let mut raw = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while position < bytes.len() {
        let digits = bytes.get(position + 1..position + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let value = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match value.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[position] == b'%' => {
                raw.push(byte);
                position += 3;
            }
            _ => {
                raw.push(bytes[position]);
                position += 1;
            }
        }
    }
    raw
}

/// `DATE-SENDER-RECIPIENT-…_SUBJECT`, recipients in the order given (sorted by the caller), all parts escaped here.
pub fn conversation(date: &str, sender: &str, recipients: &[String], subject: &str) -> String {
    let mut name = format!("{date}-{sender}");
    for recipient in recipients {
        name.push('-');
        name.push_str(recipient);
    }
    if !subject.is_empty() {
        name.push('_');
        name.push_str(&escape(subject.as_bytes()));
    }
    shorten(&name, NAME_BYTES_MAX - COLLISION_BYTES)
}

/// `RECIPIENT,…_SUBJECT`: the outbox directory that a person opens a conversation with. Recipients are escaped already,
/// in the order given; the subject is escaped here.
pub fn outbox_directory(recipients: &[String], subject: &str) -> String {
    shorten(&format!("{}_{}", recipients.join(","), escape(subject.as_bytes())), NAME_BYTES_MAX - COLLISION_BYTES)
}

/// `TIME-SENDER`, then `-FILENAME` where `file_name` has an extension of 1 to 8 letters or digits.
pub fn message(time: &str, sender: &str, file_name: &[u8]) -> String {
    let name = match extension(&escape(file_name)) {
        Some(_) => format!("{time}-{sender}-{}", escape(file_name)),
        None => format!("{time}-{sender}"),
    };
    shorten(&name, NAME_BYTES_MAX - COLLISION_BYTES)
}

/// A message's name after its author is called otherwise.
pub fn renamed_message(name: &str, old_author: &str, author: &str) -> String {
    shorten(&name.replacen(old_author, author, 1), NAME_BYTES_MAX - COLLISION_BYTES)
}

/// The extension of a file's name: 1 to 8 letters or digits behind its last dot, with something before the dot.
pub fn extension(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    let fits = (1..=8).contains(&extension.len()) && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (fits && !stem.is_empty()).then_some(extension)
}

/// The `number`th try at a message's name that is taken: `-2`, `-3`, … before its extension, if the name has one
/// behind `TIME-SENDER`. Number 1 is the name itself.
pub fn numbered_message(name: &str, number: u32) -> String {
    if number <= 1 { name.to_owned() } else { marked_message(name, &number.to_string()) }
}

fn marked_message(name: &str, mark: &str) -> String {
    // The dot of the time's fraction is no extension: what follows it is longer than 8 or has a dash in it.
    match extension(name) {
        Some(extension) => format!("{}-{mark}.{extension}", &name[..name.len() - extension.len() - 1]),
        None => format!("{name}-{mark}"),
    }
}

/// The `number`th try at a directory's name that is taken.
pub fn numbered_directory(name: &str, number: u32) -> String {
    if number <= 1 { name.to_owned() } else { marked_directory(name, &number.to_string()) }
}

fn marked_directory(name: &str, mark: &str) -> String {
    format!("{name}-{mark}")
}

/// A name for a message with this id that is free: [`numbered_message`] for the first few, then with the first 8 hex digits of the
/// id in the number's place, then with all 32. That one is free but for what a person has put there: no author has two messages
/// of one id in one place, however many they send of one time.
pub fn free_message(name: &str, id: &[u8; 16], is_free: impl Fn(&str) -> bool) -> String {
    free(name, id, marked_message, is_free)
}

/// The same for the directory of a conversation with this id.
pub fn free_directory(name: &str, id: &[u8; 16], is_free: impl Fn(&str) -> bool) -> String {
    free(name, id, marked_directory, is_free)
}

fn free(name: &str, id: &[u8; 16], marked: fn(&str, &str) -> String, is_free: impl Fn(&str) -> bool) -> String {
    let numbered =
        |name: &str, number: u32| if number == 1 { name.to_owned() } else { marked(name, &number.to_string()) };
    if let Some(free) = (1..=FOREIGN_NAME_TRIES_MAX).map(|number| numbered(name, number)).find(|name| is_free(name)) {
        return free;
    }
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let short = marked(name, &digits[..8]);
    if is_free(&short) {
        return short;
    }
    let whole = marked(&shorten(name, NAME_BYTES_MAX - COLLISION_BYTES - 1 - digits.len()), &digits);
    (1..=NAME_TRIES_MAX).map(|number| numbered(&whole, number)).find(|name| is_free(name)).unwrap_or(whole)
}

/// A name as a word for a shell: in quotes where that would take it for anything else.
pub fn shell_word(name: &str) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || "._-~%+@,".contains(character);
    match !name.is_empty() && !name.starts_with(['-', '~']) && name.chars().all(is_plain) {
        true => name.to_owned(),
        false => format!("'{}'", name.replace('\'', "'\\''")),
    }
}

/// Whether a file's name in an outbox directory says that it is no message: metadata, hidden files, drafts and leftovers
/// of editors and copying programs, and our own error files.
pub fn is_ignored(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let wrapped = name.len() > 1 && name.starts_with(b"#") && name.ends_with(b"#");
    let endings: [&[u8]; 5] = [b"~", b".tmp", b".part", b".swp", b".error"];
    name == b"metadata.toml" || name.starts_with(b".") || wrapped || endings.iter().any(|ending| name.ends_with(ending))
}

/// The name of the error file beside `name`: `NAME.error`, shortened if that is too long.
pub fn error_file(name: &[u8]) -> Vec<u8> {
    const SUFFIX: &[u8] = b".error";
    if name.len() + SUFFIX.len() <= NAME_BYTES_MAX {
        return [name, SUFFIX].concat();
    }
    let kept = &name[..NAME_BYTES_MAX - SUFFIX.len() - HASH_BYTES];
    [kept, hash_suffix(name).as_bytes(), SUFFIX].concat()
}

const HASH_BYTES: usize = 9;

fn hash_suffix(name: &[u8]) -> String {
    let digest = Sha256::digest(name);
    format!("~{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

/// At most `limit` bytes of `name`: its beginning, `~` and 8 hex digits of its SHA-256, and its extension.
fn shorten(name: &str, limit: usize) -> String {
    if name.len() <= limit {
        return name.to_owned();
    }
    let extension = extension(name).map_or_else(String::new, |extension| format!(".{extension}"));
    let mut kept = limit - HASH_BYTES - extension.len();
    while !name.is_char_boundary(kept) {
        kept -= 1;
    }
    format!("{}{}{extension}", &name[..kept], hash_suffix(name.as_bytes()))
}

/// Orders names with runs of digits as numbers: `a2` before `a10`.
pub fn natural_order(left: &str, right: &str) -> Ordering {
    let (mut lefts, mut rights) = (left.bytes().peekable(), right.bytes().peekable());
    loop {
        match (lefts.peek().copied(), rights.peek().copied()) {
            (Some(l), Some(r)) if l.is_ascii_digit() && r.is_ascii_digit() => {
                let (l, r) = (digits(&mut lefts), digits(&mut rights));
                let order = l.len().cmp(&r.len()).then_with(|| l.cmp(&r));
                if order != Ordering::Equal {
                    return order;
                }
            }
            (Some(l), Some(r)) if l == r => {
                lefts.next();
                rights.next();
            }
            // The whole names decide between `a1` and `a01`.
            (None, None) => return left.cmp(right),
            (l, r) => return l.cmp(&r),
        }
    }
}

/// The digits that come next, without leading zeros.
fn digits(bytes: &mut Peekable<Bytes<'_>>) -> Vec<u8> {
    let mut digits = Vec::new();
    while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
        if !(digits.is_empty() && digit == b'0') {
            digits.push(digit);
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_that_is_shown_is_the_path_but_for_what_steers_a_terminal() {
        for (path, shown) in [
            ("outbox/bob,carol/x y", "outbox/bob,carol/x y"),
            ("outbox/a%2C b,bob/50%", "outbox/a%252C b,bob/50%25"),
            ("outbox/\u{1b}[2J/\n", "outbox/%1B[2J/%0A"),
        ] {
            assert_eq!(shown_path(Path::new(path)), shown);
            assert_eq!(unescape(shown), path.as_bytes());
        }
    }

    #[test]
    fn account_names() {
        for good in ["a", "0", "alice", "a.b_c-d", &"a".repeat(64)] {
            assert!(is_account_name(good), "{good}");
        }
        for bad in ["", ".a", "-a", "_a", "Alice", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert!(!is_account_name(bad), "{bad}");
        }
    }

    #[test]
    fn hostile_bytes_cannot_leave_hide_or_disguise() {
        assert_eq!(escape(b"../../etc/passwd"), "%2E.%2F..%2Fetc%2Fpasswd");
        assert_eq!(escape(b"-rf"), "%2Drf");
        assert_eq!(escape(b"a\nb\x1b[31m\0"), "a%0Ab%1B[31m%00");
        assert_eq!(escape("a\u{202e}gpj.exe".as_bytes()), "a%E2%80%AEgpj.exe");
        assert_eq!(escape(b"\xff,%"), "%FF%2C%25");
        assert_eq!(escape("schöne Grüße.txt".as_bytes()), "schöne Grüße.txt");
    }

    #[test]
    fn names_of_messages() {
        let time = "2026-11-22T101530.123456Z";
        assert_eq!(message(time, "alice", b""), format!("{time}-alice"));
        assert_eq!(message(time, "bob", b"plan.pdf"), format!("{time}-bob-plan.pdf"));
        assert_eq!(message(time, "bob", b"Makefile"), format!("{time}-bob"));
        assert_eq!(message(time, "bob", b"x.toolongext"), format!("{time}-bob"));
        assert_eq!(numbered_message(&format!("{time}-bob-plan.pdf"), 2), format!("{time}-bob-plan-2.pdf"));
        assert_eq!(numbered_message(&format!("{time}-bob"), 3), format!("{time}-bob-3"));
    }

    #[test]
    fn a_name_too_long_is_shortened_with_a_hash_and_keeps_its_extension() {
        let long = [b"x".repeat(300), b".pdf".to_vec()].concat();
        let name = message("2026-11-22T101530.123456Z", "bob", &long);
        assert!(name.len() <= NAME_BYTES_MAX - COLLISION_BYTES && name.ends_with(".pdf") && name.contains('~'));
        let other = message("2026-11-22T101530.123456Z", "bob", &[b"x".repeat(301), b".pdf".to_vec()].concat());
        assert_ne!(name, other);
        let recipients: Vec<String> = (0..24).map(|number| format!("{}{number}", "ö".repeat(20))).collect();
        assert!(conversation("2026-11-22", "alice", &recipients, "s").len() <= NAME_BYTES_MAX - COLLISION_BYTES);
        let outbox = outbox_directory(&recipients, "a/b");
        assert!(outbox.len() <= NAME_BYTES_MAX - COLLISION_BYTES && outbox.contains('~'));
        assert_eq!(outbox_directory(&["bob".into(), "carol".into()], "a/b"), "bob,carol_a%2Fb");
        assert_eq!(error_file(&[b'a'; 255]).len(), NAME_BYTES_MAX);
        assert_eq!(error_file(b"x"), b"x.error");
    }

    #[test]
    fn many_of_one_name_are_told_apart_by_their_ids() {
        let id = [0xab; 16];
        let (eight, all) = ("ab".repeat(4), "ab".repeat(16));
        let names = |marked: fn(&str, &str) -> String, wanted: &str| -> Vec<String> {
            let mut taken = Vec::new();
            for _ in 0..20 {
                let name = free(wanted, &id, marked, |name| !taken.iter().any(|other| other == name));
                assert!(name.len() <= NAME_BYTES_MAX, "{name}");
                taken.push(name);
            }
            taken
        };
        let messages = |wanted: &str| names(marked_message, wanted);
        let directories = |wanted: &str| names(marked_directory, wanted);
        let found = messages("t-bob-plan.pdf");
        assert_eq!([&found[0], &found[1], &found[15]], ["t-bob-plan.pdf", "t-bob-plan-2.pdf", "t-bob-plan-16.pdf"]);
        let beyond = [&eight[..], &all, &format!("{all}-2")].map(|mark| format!("t-bob-plan-{mark}.pdf"));
        assert_eq!(found[16..19], beyond);
        let found = directories("2026-11-22-bob-alice_v1.2");
        assert_eq!([&found[0], &found[1]], ["2026-11-22-bob-alice_v1.2", "2026-11-22-bob-alice_v1.2-2"]);
        assert_eq!(found[17], format!("2026-11-22-bob-alice_v1.2-{all}"));
        let longest = message("2026-11-22T101530.123456Z", "bob", &[b"x".repeat(250), b".pdf".to_vec()].concat());
        assert!(messages(&longest).iter().all(|name| name.ends_with(".pdf")));
        assert!(directories(&"x".repeat(244))[17].ends_with(&all));
    }

    #[test]
    fn drafts_and_leftovers_of_editors_are_no_messages() {
        for name in [".hidden", "#x#", "x~", "x.tmp", "x.part", "x.swp", "x.error", "metadata.toml", ".id"] {
            assert!(is_ignored(OsStr::new(name)), "{name}");
        }
        for name in ["x", "#", "#x", "x.txt", "tmp", "metadata.toml.txt", "-rf"] {
            assert!(!is_ignored(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn digits_count_as_numbers() {
        let mut names = vec!["a10", "a2", "b", "a", "a02", "a1", "10", "9"];
        names.sort_by(|left, right| natural_order(left, right));
        assert_eq!(names, ["9", "10", "a", "a1", "a02", "a2", "a10", "b"]);
    }

    proptest! {
        #[test]
        fn escaping_is_reversible_and_legal(raw in proptest::collection::vec(any::<u8>(), 0..80)) {
            let escaped = escape(&raw);
            prop_assert_eq!(unescape(&escaped), raw);
            prop_assert!(!escaped.contains(['/', '\0', ',']) && !escaped.starts_with('.'));
        }

        #[test]
        fn natural_order_is_a_total_order(a in "[ab0-2]{0,6}", b in "[ab0-2]{0,6}", c in "[ab0-2]{0,6}") {
            prop_assert_eq!(natural_order(&a, &b), natural_order(&b, &a).reverse());
            prop_assert_eq!(natural_order(&a, &b) == Ordering::Equal, a == b);
            if natural_order(&a, &b) != Ordering::Greater && natural_order(&b, &c) != Ordering::Greater {
                prop_assert_ne!(natural_order(&a, &c), Ordering::Greater);
            }
        }
    }
}
