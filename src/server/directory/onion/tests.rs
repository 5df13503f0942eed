//! The onion service's key and address through crashes, losses and other people's hands. Without a network.

use std::fs;

use rand_core::OsRng;
use tempfile::TempDir;

use super::*;

/// The directory, and what is removed with it.
fn server() -> (Directory, TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    (Directory::create(&scratch.path().join("server"), "host:1", &mut OsRng).unwrap(), scratch)
}

#[test]
fn what_is_no_onion_address_is_not_taken_for_one() {
    let (directory, _scratch) = server();
    assert!(matches!(directory.onion(), Err(DirectoryError::NoOnion)));
    for damaged in ["", "onion", "onion name.onion", "onion name.onion:0", "onion host:1984", "onion \u{e4}.onion:1"] {
        fs::write(directory.path.join(FILE), damaged).unwrap();
        assert!(matches!(directory.onion(), Err(DirectoryError::Damaged(_))), "{damaged}");
    }
    fs::write(directory.path.join(FILE), [0xff]).unwrap();
    assert!(matches!(directory.onion(), Err(DirectoryError::Damaged(_))));
    let address = format!("{}d.onion:1984", "a".repeat(55));
    fs::write(directory.path.join(FILE), format!("# a comment\nonion {address}\n")).unwrap();
    assert_eq!(directory.onion().unwrap().host_port(), address);
}

#[cfg(feature = "tor")]
mod with_tor {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::Path;

    use super::*;

    /// Everything below a directory.
    fn all(path: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { [vec![path.clone()], all(&path)].concat() } else { vec![path] })
            .collect()
    }

    fn key_file(directory: &Directory) -> PathBuf {
        let is_key =
            |path: &PathBuf| path.extension().is_some_and(|extension| extension.to_string_lossy().ends_with("private"));
        all(&directory.tor()).into_iter().find(is_key).unwrap()
    }

    #[test]
    fn a_new_onion_server_has_its_address_in_both_files_and_is_private() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("server");
        let made = Directory::create_onion(&path, 81, &mut OsRng).unwrap();
        assert!(made.address().is_onion() && made.address().port() == 81);
        let opened = Directory::open(&path).unwrap();
        assert_eq!(opened.address(), made.address());
        assert_eq!(&opened.onion().unwrap(), made.address());
        assert_eq!(&opened.onion_or_new(1984, None).unwrap(), made.address(), "the port is the file's");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing else is left");
        for path in all(scratch.path()) {
            let metadata = path.metadata().unwrap();
            let mode = if metadata.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(metadata.mode() & 0o777, mode, "{}", path.display());
        }
        assert!(matches!(Directory::create_onion(&path, 1984, &mut OsRng), Err(DirectoryError::Exists)));
    }

    #[test]
    fn a_server_gets_its_onion_service_later_and_keeps_its_address() {
        let (directory, _scratch) = server();
        let onion = directory.onion_or_new(1984, None).unwrap();
        assert_eq!(directory.onion().unwrap(), onion);
        assert_eq!(directory.onion_or_new(99, None).unwrap(), onion);
        assert_eq!(Directory::open(&directory.path).unwrap().address().host_port(), "host:1");
    }

    #[test]
    fn after_a_crash_at_any_point_of_making_it_it_is_made() {
        let (directory, _scratch) = server();
        // In the midst of making the key.
        fs::create_dir_all(directory.path.join("tor.new/state/keystore/hss/chatterbox")).unwrap();
        fs::write(directory.path.join("tor.new/state/keystore/hss/chatterbox/ks_hs_id.tmp"), "half").unwrap();
        fs::write(directory.path.join("onion.new"), "onion na").unwrap();
        let made = directory.onion_or_new(1984, None).unwrap();
        assert!(!directory.path.join("tor.new").exists() && !directory.path.join("onion.new").exists());
        // Between the key and the file.
        fs::remove_file(directory.path.join(FILE)).unwrap();
        assert_eq!(directory.onion_or_new(1984, None).unwrap(), made);
    }

    #[test]
    fn a_key_that_is_lost_or_another_is_an_error_and_never_replaced() {
        let ((one, _scratch), (other, _other_scratch)) = (server(), server());
        let (expected, found) = (one.onion_or_new(1984, None).unwrap(), other.onion_or_new(1984, None).unwrap());
        fs::copy(key_file(&other), key_file(&one)).unwrap();
        match one.onion_or_new(1984, None) {
            Err(DirectoryError::OtherOnion { expected: told, found: Some(other) }) => {
                assert_eq!((told.as_str(), other.as_str()), (expected.host(), found.host()));
            }
            other => panic!("{other:?}"),
        }
        fs::write(key_file(&one), "damaged").unwrap();
        assert!(matches!(one.onion_or_new(1984, None), Err(DirectoryError::OtherOnion { found: None, .. })));
        fs::remove_dir_all(one.tor()).unwrap();
        assert!(matches!(one.onion_or_new(1984, None), Err(DirectoryError::OtherOnion { found: None, .. })));
        assert_eq!(one.onion().unwrap(), expected, "the address is told all the same");
    }

    #[test]
    fn a_key_that_others_may_read_or_replace_is_not_used() {
        let (directory, _scratch) = server();
        let made = directory.onion_or_new(1984, None).unwrap();
        for (path, mode) in [("tor/state/keystore", 0o755), ("tor/state", 0o755), ("tor", 0o777), ("", 0o777)] {
            let path = directory.path.join(path);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let opened = directory.onion_or_new(1984, None);
            assert!(matches!(opened, Err(DirectoryError::OnionKey(_))), "{}: {opened:?}", path.display());
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        assert_eq!(directory.onion_or_new(1984, None).unwrap(), made);
    }
}
