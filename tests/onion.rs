//! The server as an onion service, as far as it needs no network: keys, addresses, faults, and a Tor that gets nowhere.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_chatterbox-server");

/// Runs the program on `directory` to its end.
fn program(command: &str, directory: &Path, options: &[&str]) -> Output {
    Command::new(BINARY).arg(command).arg(directory).args(options).stdin(Stdio::null()).output().unwrap()
}

/// A name in an empty directory.
fn nowhere() -> (PathBuf, TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    (scratch.path().join("server"), scratch)
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[cfg(not(feature = "tor"))]
#[test]
fn without_tor_the_option_is_refused_and_told_why() {
    let (directory, _scratch) = nowhere();
    let refused = program("init", &directory, &["--onion"]);
    assert_eq!(code(&refused), Some(64));
    assert!(stderr(&refused).contains("the cargo feature `tor`") && !directory.exists());
    assert_eq!(code(&program("init", &directory, &["--address", "host:1"])), Some(0));
    let refused = program("run", &directory, &["--onion"]);
    assert_eq!(code(&refused), Some(64));
    assert!(stderr(&refused).contains("the cargo feature `tor`"));
}

#[cfg(feature = "tor")]
mod with_tor {
    use std::fs;
    use std::io::{BufRead as _, BufReader, Read};
    use std::net::{SocketAddr, TcpStream};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::process::Child;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// No test waits this long for anything that works.
    const STUCK: Duration = Duration::from_secs(60);

    fn stdout(output: &Output) -> String {
        String::from_utf8(output.stdout.clone()).unwrap()
    }

    /// The directories and files below `path`.
    fn below(path: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { [below(&path), vec![path]].concat() } else { vec![path] }).collect()
    }

    /// Configuration of a Tor network whose relays are all a port of this machine where nobody is.
    fn dead_network(scratch: &Path) -> PathBuf {
        let at = "127.0.0.1:1";
        let (rsa, ed25519) =
            ("D8406B66AE7FC2011029E72CB6823F7F0AC0C2B4", "ndY2q33oHl+5tXIt/4hqBdV+0Jbg3V70eti76tm+2hc");
        let text = format!(
            "[tor_network]\n\
             fallback_caches = [{{ rsa_identity = \"{rsa}\", ed_identity = \"{ed25519}\", orports = [\"{at}\"] }}]\n\
             [tor_network.authorities]\nv3idents = [\"{rsa}\"]\n\
             uploads = [[\"{at}\"]]\ndownloads = [[\"{at}\"]]\nvotes = [[\"{at}\"]]\n"
        );
        let path = scratch.join("network.toml");
        fs::write(&path, text).unwrap();
        path
    }

    /// A server that runs. Dropping it kills it.
    struct Running {
        child: Child,
        printed: mpsc::Receiver<String>,
        log: mpsc::Receiver<String>,
    }

    /// The lines of a stream, read to its end, so that the server never waits for us.
    fn lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        lines
    }

    impl Running {
        fn start(directory: &Path, options: &[&str]) -> Self {
            let mut program = Command::new(BINARY);
            program.arg("run").arg(directory).args(options).stdin(Stdio::null());
            let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let printed = lines(child.stdout.take().unwrap());
            let log = lines(child.stderr.take().unwrap());
            Self { child, printed, log }
        }

        /// The line that it prints.
        fn prints(&self) -> String {
            self.printed.recv_timeout(STUCK).expect("the server prints its address")
        }

        /// What follows `start` in the first line of the log that has it.
        fn says(&self, start: &str) -> String {
            loop {
                let line = self.log.recv_timeout(STUCK).expect("the server says it");
                if let Some((_, rest)) = line.split_once(start) {
                    return rest.to_owned();
                }
            }
        }

        fn stop(mut self) -> Option<i32> {
            let pid = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            self.child.wait().unwrap().code()
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn init_prints_an_address_that_address_prints_again_and_no_two_are_alike() {
        let (directory, scratch) = nowhere();
        // What a crash in the midst of it leaves is in nobody's way.
        fs::create_dir(scratch.path().join(".chatterbox-server-crash")).unwrap();
        let made = program("init", &directory, &["--onion"]);
        assert_eq!(code(&made), Some(0), "{}", stderr(&made));
        let (name, key) = stdout(&made)
            .trim_end()
            .strip_prefix("chatterbox-server://")
            .map(|rest| {
                let (name, key) = rest.split_once(".onion:1984/").unwrap();
                (name.to_owned(), key.to_owned())
            })
            .unwrap();
        assert_eq!((name.len(), key.len()), (56, 64));
        assert_eq!(program("address", &directory, &[]).stdout, made.stdout);
        assert_eq!(program("address", &directory, &["--onion"]).stdout, made.stdout);
        for path in below(&directory) {
            let metadata = path.metadata().unwrap();
            let mode = if metadata.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(metadata.mode() & 0o777, mode, "{}", path.display());
        }
        let files = below(&directory).len();
        assert_eq!(code(&program("init", &directory, &["--onion"])), Some(73));
        assert_eq!(below(&directory).len(), files, "the second init changed nothing");
        let other = program("init", &scratch.path().join("other"), &["--onion", "--port", "81"]);
        assert!(stdout(&other).contains(".onion:81/") && !stdout(&other).contains(&name));
    }

    #[test]
    fn each_misuse_has_its_exit_code() {
        let (directory, scratch) = nowhere();
        for options in [&[][..], &["--onion", "--address", "host:1"], &["--port", "1"], &["--onion", "--port", "0"]] {
            assert_eq!(code(&program("init", &directory, options)), Some(64), "{options:?}");
        }
        assert_eq!(code(&program("init", &directory, &["--address", "host:1", "--port", "1"])), Some(64));
        assert!(!directory.exists());
        assert_eq!(code(&program("init", &directory, &["--address", "host:1"])), Some(0));
        assert_eq!(code(&program("address", &directory, &["--onion"])), Some(66));
        let network = dead_network(scratch.path());
        let network = network.to_str().unwrap();
        let private = "--dangerous-private-tor-network";
        assert_eq!(code(&program("run", &directory, &[private, network])), Some(64), "only with --onion");
        assert_eq!(code(&program("run", &directory, &["--onion", private, "/nowhere"])), Some(78));
        fs::write(scratch.path().join("damaged.toml"), "[path_rules").unwrap();
        let damaged = scratch.path().join("damaged.toml");
        assert_eq!(code(&program("run", &directory, &["--onion", private, damaged.to_str().unwrap()])), Some(78));
    }

    #[test]
    fn where_others_may_write_no_key_is_made_and_nothing_is_left() {
        let (directory, scratch) = nowhere();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = program("init", &directory, &["--onion"]);
        assert_eq!(code(&refused), Some(78));
        assert!(stderr(&refused).contains("chmod go-rwx"), "{}", stderr(&refused));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_server_gets_an_onion_address_once_and_serves_by_tcp_while_tor_gets_nowhere() {
        let (directory, scratch) = nowhere();
        assert_eq!(code(&program("init", &directory, &["--address", "host:1"])), Some(0));
        let network = dead_network(scratch.path());
        let onion = ["--onion", "--dangerous-private-tor-network", network.to_str().unwrap()];
        let both = [&onion[..], &["--listen", "127.0.0.1:0"]].concat();
        let server = Running::start(&directory, &both);
        let printed = server.prints();
        let at: SocketAddr = server.says("listening on ").parse().unwrap();
        server.says("connecting to Tor");
        TcpStream::connect(at).unwrap();
        let told = program("address", &directory, &["--onion"]);
        assert_eq!(stdout(&told).trim_end(), printed, "also while it runs");
        assert!(stdout(&program("address", &directory, &[])).contains("//host:1/"), "the first address stays");
        assert_eq!(server.stop(), Some(0));
        let server = Running::start(&directory, &onion);
        assert_eq!(server.prints(), printed);
        server.says("connecting to Tor");
        assert_eq!(server.stop(), Some(0));
    }

    #[test]
    fn with_the_onion_service_alone_there_is_no_port_and_without_it_the_log_says_so() {
        let (directory, scratch) = nowhere();
        assert_eq!(code(&program("init", &directory, &["--onion"])), Some(0));
        let network = dead_network(scratch.path());
        let server =
            Running::start(&directory, &["--onion", "--dangerous-private-tor-network", network.to_str().unwrap()]);
        let mut said = String::new();
        while !said.contains("connecting to Tor") {
            said = server.log.recv_timeout(STUCK).expect("the server says it");
            assert!(!said.contains("listening"), "{said}");
        }
        let listening = fs::read_to_string(format!("/proc/{}/net/tcp", server.child.id())).unwrap();
        let sockets = fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap();
        let sockets: Vec<_> = sockets.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).collect();
        // Column 4 is the state, 0A for one that listens; column 10 the inode.
        for line in listening.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
            let inode = PathBuf::from(format!("socket:[{}]", line[9]));
            assert!(line[3] != "0A" || !sockets.contains(&inode), "{line:?}");
        }
        assert_eq!(server.stop(), Some(0));
        let server = Running::start(&directory, &["--listen", "127.0.0.1:0"]);
        server.says("which runs only with --onion");
        server.says("listening on ");
        assert_eq!(server.stop(), Some(0));
    }

    #[test]
    fn a_lost_key_and_a_damaged_address_are_told_and_never_replaced() {
        let (directory, _scratch) = nowhere();
        let made = program("init", &directory, &["--onion"]);
        let tor = directory.join("tor");
        fs::remove_dir_all(&tor).unwrap();
        let refused = program("run", &directory, &["--onion"]);
        assert_eq!(code(&refused), Some(65));
        assert!(stderr(&refused).contains("missing or damaged") && stderr(&refused).contains("from one copy"));
        let other = directory.with_file_name("other");
        assert_eq!(code(&program("init", &other, &["--onion"])), Some(0));
        fs::rename(other.join("tor"), &tor).expect("nothing was made in its place");
        let refused = program("run", &directory, &["--onion"]);
        assert_eq!(code(&refused), Some(65));
        let name = stdout(&program("address", &other, &[]));
        assert!(stderr(&refused).contains(name.split(['/', ':']).nth(3).unwrap()), "{}", stderr(&refused));
        fs::write(directory.join("onion"), "onion nonsense\n").unwrap();
        assert_eq!(code(&program("run", &directory, &["--onion"])), Some(65));
        let refused = program("address", &directory, &["--onion"]);
        assert_eq!(code(&refused), Some(65));
        assert!(stderr(&refused).contains("the file onion in it is damaged"));
        assert_eq!(program("address", &directory, &[]).stdout, made.stdout);
    }
}
