//! The real programs as processes, and the real directories to watch.
//!
//! Every test has a loopback address of its own, so that a server keeps its port across restarts and no two tests meet.
//! Nothing here sleeps: a wait is for an event in a directory, and a deadline only ends a test that hangs.

#![allow(dead_code, unused_imports, missing_docs, clippy::unwrap_used, clippy::panic)]

pub mod agreement;
pub mod clock;
pub mod disk;
pub mod holder;
pub mod machine;
pub mod outbox;
pub mod strace;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub use machine::{as_user, is_left_out, is_root};
use notify::{RecursiveMode, Watcher as _};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tempfile::TempDir;

/// Longer than anything that works takes, on a busy machine too.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How often a condition is looked at although no event came: for conditions outside the watched directory.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

const SERVER: &str = env!("CARGO_BIN_EXE_chatterbox-server");
pub const DAEMON: &str = env!("CARGO_BIN_EXE_chatterboxd");
const CLI: &str = env!("CARGO_BIN_EXE_chatterbox");

/// Waits until `look` finds something, looking whenever something happens below `directory`.
pub fn wait_for<T>(directory: &Path, what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_patiently(DEADLINE, directory, what, look)
}

/// The same, for what takes longer when it works.
pub fn wait_patiently<T>(patience: Duration, directory: &Path, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let (sender, events) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = sender.send(());
        }
    })
    .unwrap();
    let deadline = Instant::now() + patience;
    // A directory below it may go while all are being watched: then they are gone through anew.
    while let Err(error) = watcher.watch(directory, RecursiveMode::Recursive) {
        let is_other_gone = says_gone(&error.kind) && directory.is_dir();
        let may_try_again = is_other_gone && Instant::now() < deadline;
        assert!(may_try_again, "{} cannot be watched: {error}", directory.display());
    }
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what} in\n{}", tree(directory));
        let _ = events.recv_timeout(LOOK_AGAIN);
        while events.try_recv().is_ok() {}
    }
}

/// Whether a path could not be watched because it is not there: found so before its watch, or behind it, when it is looked at
/// once more.
fn says_gone(kind: &notify::ErrorKind) -> bool {
    match kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Everything below a directory and what its daemon said last, for the message of a test that fails.
pub fn tree(directory: &Path) -> String {
    let mut lines = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            }
            let path = entry.path();
            if !["keys", "journal"].iter().any(|name| path.starts_with(directory.join(name))) {
                lines.push(format!("  {}", path.display()));
            }
        }
    }
    lines.sort();
    let status = fs::read_to_string(directory.join("status")).unwrap_or_default();
    let log = fs::read_to_string(directory.with_extension("log")).unwrap_or_default();
    let last: Vec<&str> = log.lines().rev().take(40).collect();
    let log: String = last.into_iter().rev().map(|line| format!("  {line}\n")).collect();
    format!("{}\nstatus:\n{status}\nthe end of the log:\n{log}", lines.join("\n"))
}

/// A process that ends with its owner.
pub struct Process(Child);

impl Process {
    pub fn of(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: Signal) {
        send_signal(&self.0, signal);
    }

    /// SIGKILL, and until it is gone.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        assert_eq!(self.0.wait().unwrap().signal(), Some(9));
    }

    /// SIGTERM, and until it has stopped; it must do so without a complaint.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Until it has ended by itself.
    pub fn wait(mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// How many files and directories the kernel watches for it.
    pub fn inotify_watches(&self) -> usize {
        let described = entries(Path::new(&format!("/proc/{}/fdinfo", self.pid())));
        // A descriptor may be closed between the two looks.
        let texts = described.iter().filter_map(|path| fs::read_to_string(path).ok());
        texts.map(|text| text.lines().filter(|line| line.starts_with("inotify ")).count()).sum()
    }

    /// The most memory it ever held, as the kernel says it.
    pub fn peak_memory(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.expect("every process with memory has this line").trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        clock::tidy_after(self.pid());
    }
}

/// Not by the program `kill`, which not every system has.
pub fn send_signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A home server with its directory.
pub struct Server {
    pub directory: PathBuf,
    pub address: String,
    listen: String,
    pub process: Option<Process>,
}

impl Server {
    fn new(directory: PathBuf) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let pid = std::process::id();
        // 127.0.0.0/8 is ours: a host for each server of each test process.
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % 250 + 1;
        let listen = format!("127.{}.{}.{number}:19840", pid / 250 % 250 + 1, pid % 250 + 1);
        let made = Command::new(SERVER).arg("init").arg(&directory).args(["--address", &listen]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let address = String::from_utf8(made.stdout).unwrap().trim_end().to_owned();
        Self { directory, address, listen, process: None }
    }

    pub fn start(&mut self) {
        self.start_as(Command::new(SERVER));
    }

    /// As the program that `wrapper` runs.
    pub fn start_under(&mut self, mut wrapper: Command) {
        wrapper.arg(SERVER);
        self.start_as(wrapper);
    }

    fn start_as(&mut self, mut command: Command) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.with_extension("log")).unwrap();
        let process =
            command.arg("run").arg(&self.directory).args(["--listen", &self.listen]).stderr(log).spawn().unwrap();
        self.process = Some(Process(process));
    }

    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    pub fn listen_address(&self) -> &str {
        &self.listen
    }
}

/// A server and the accounts around it, in a directory of their own.
pub struct World {
    pub scratch: TempDir,
    pub server: Server,
}

impl World {
    /// With a server that runs.
    pub fn new() -> Self {
        let scratch = TempDir::new().unwrap();
        let mut server = Server::new(scratch.path().join("server"));
        server.start();
        Self { scratch, server }
    }

    /// An account whose daemon is not started yet.
    pub fn user(&self, name: &str) -> User {
        self.user_at(name, &self.server.address)
    }

    pub fn user_at(&self, name: &str, address: &str) -> User {
        self.user_by(name, address, "direct")
    }

    pub fn user_by(&self, name: &str, address: &str, dialer: &str) -> User {
        let root = self.scratch.path().join(name);
        let user = User { name: name.to_owned(), root, daemon: None };
        let made = user.cli(&["init", name, "--server", address, "--dialer", dialer]);
        assert!(made.status.success(), "{made:?}");
        user
    }

    /// An account on a filesystem of its own.
    pub fn user_on(&self, name: &str, disk: &disk::Disk) -> User {
        let user = User { name: name.to_owned(), root: disk.root(), daemon: None };
        let made = user.cli(&["init", name, "--server", &self.server.address, "--dialer", "direct"]);
        assert!(made.status.success(), "{made:?}");
        user
    }

    /// Another server, which runs.
    pub fn another_server(&self, name: &str) -> Server {
        let mut server = Server::new(self.scratch.path().join(name));
        server.start();
        server
    }

    /// Users with running daemons, all of whom hold each other's cards.
    pub fn friends<const N: usize>(&self, names: [&str; N]) -> [User; N] {
        let mut users = names.map(|name| self.user(name));
        for one in 0..N {
            for other in 0..N {
                if one != other {
                    users[one].add(&users[other]);
                }
            }
        }
        users.iter_mut().for_each(User::start);
        users
    }
}

/// An account with its directory.
pub struct User {
    pub name: String,
    pub root: PathBuf,
    pub daemon: Option<Process>,
}

impl User {
    pub fn start(&mut self) {
        self.daemon = Some(self.spawn());
    }

    /// As the program that `wrapper` runs.
    pub fn start_under(&mut self, mut wrapper: Command) {
        wrapper.arg(DAEMON);
        self.start_as(wrapper);
    }

    /// By a command line that ends with the program.
    pub fn start_as(&mut self, command: Command) {
        self.daemon = Some(self.spawn_from(command));
    }

    pub fn spawn(&self) -> Process {
        self.spawn_from(Command::new(DAEMON))
    }

    fn spawn_from(&self, mut command: Command) -> Process {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.root.with_extension("log")).unwrap();
        Process(command.arg("--root").arg(&self.root).stdin(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// As an ordinary user, so that permissions are not passed over as root's are: where we are root, another one, to whom
    /// everything is given.
    pub fn start_ordinarily(&mut self) {
        if !is_root() {
            return self.start();
        }
        let (scratch, log) = (self.root.parent().unwrap(), self.root.with_extension("log"));
        fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        machine::open_to_all(scratch);
        machine::give_to(machine::SOMEBODY, [self.root.as_path(), &log]);
        let mut command = as_user(machine::SOMEBODY);
        command.arg(machine::installed(scratch));
        self.start_as(command);
    }

    /// Runs the daemon to its end.
    pub fn daemon_output(&self) -> Output {
        Command::new(DAEMON).arg("--root").arg(&self.root).stdin(Stdio::null()).output().unwrap()
    }

    pub fn stop(&mut self) {
        self.daemon.take().unwrap().stop();
    }

    pub fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.root.with_extension("log")).unwrap_or_default()
    }

    pub fn cli(&self, arguments: &[&str]) -> Output {
        Command::new(CLI).arg("--root").arg(&self.root).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    pub fn cli_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(CLI)
            .arg("--root")
            .arg(&self.root)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What refuses beforehand reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    pub fn card(&self) -> String {
        let shown = self.cli(&["card"]);
        assert!(shown.status.success(), "{shown:?}");
        String::from_utf8(shown.stdout).unwrap()
    }

    /// Adds a line to the settings; the daemon reads them when it starts. Whole at once: one that is starting may read them
    /// just now.
    pub fn set(&self, setting: &str) {
        self.change_settings(|text| format!("{text}\n{setting}\n"));
    }

    /// Takes back what was set by such lines.
    pub fn unset(&self, setting: &str) {
        self.change_settings(|text| text.replace(&format!("\n{setting}\n"), ""));
    }

    fn change_settings(&self, change: impl FnOnce(&str) -> String) {
        let (path, new) = (self.at("chatterbox.toml"), self.at("tmp/new-settings"));
        let known = fs::metadata(&path).unwrap();
        fs::write(&new, change(&fs::read_to_string(&path).unwrap())).unwrap();
        fs::set_permissions(&new, known.permissions()).unwrap();
        chown(&new, Some(known.uid()), Some(known.gid())).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Adds somebody's card under their own name.
    pub fn add(&self, other: &Self) {
        fs::write(self.at(format!("contacts/{}.card", other.name)), other.card()).unwrap();
    }

    /// Drops a file into an outbox directory as a shell's redirect does.
    pub fn drop_file(&self, directory: &str, name: &str, content: impl AsRef<[u8]>) {
        let directory = self.at("outbox").join(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), content).unwrap();
    }

    /// Drops a file by a rename from our own scratch directory.
    pub fn move_file(&self, directory: &str, name: &str, content: impl AsRef<[u8]>) {
        let scratch = self.at("tmp/test");
        fs::create_dir_all(&scratch).unwrap();
        fs::write(scratch.join(name), content).unwrap();
        let directory = self.at("outbox").join(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::rename(scratch.join(name), directory.join(name)).unwrap();
    }

    /// The messages that stand in conversations now: directory, name and content, by name.
    pub fn messages(&self) -> Vec<(String, String, Vec<u8>)> {
        let mut found = Vec::new();
        for directory in entries(&self.at("conversations")) {
            for file in entries(&directory) {
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                if name != "metadata.toml"
                    && !name.starts_with('.')
                    && let Ok(content) = fs::read(&file)
                {
                    let directory = directory.file_name().unwrap().to_string_lossy().into_owned();
                    found.push((directory, name, content));
                }
            }
        }
        found.sort();
        found
    }

    /// The content of the messages by one author, in the order of their names.
    pub fn heard_from(&self, author: &str) -> Vec<String> {
        let by_author = |name: &str| {
            name.get(26..).is_some_and(|rest| {
                rest.strip_prefix(author).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '~']))
            })
        };
        let messages = self.messages().into_iter().filter(|(_, name, _)| by_author(name));
        messages.map(|(_, _, content)| String::from_utf8(content).unwrap()).collect()
    }

    /// Waits for a message with this content, and hands out its path.
    pub fn wait_for_message(&self, content: &str) -> PathBuf {
        self.wait_for(&format!("a message {content:?}"), || {
            let found = self.messages().into_iter().find(|(_, _, bytes)| bytes == content.as_bytes());
            found.map(|(directory, name, _)| self.at("conversations").join(directory).join(name))
        })
    }

    pub fn wait_for<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        wait_for(&self.root, &format!("{what} ({}'s)", self.name), look)
    }

    /// Waits until a file has appeared, and hands out its text.
    pub fn wait_for_file(&self, path: impl AsRef<Path>) -> String {
        let path = self.at(path);
        self.wait_for(&path.display().to_string(), || fs::read_to_string(&path).ok())
    }

    /// Waits until a file has gone.
    pub fn wait_until_gone(&self, path: impl AsRef<Path>) {
        let path = self.at(path);
        self.wait_for(&format!("{} to go", path.display()), || fs::symlink_metadata(&path).is_err().then_some(()));
    }

    /// Waits until `status` has a line that starts like this.
    pub fn wait_for_status(&self, line: &str) -> String {
        self.wait_for(&format!("status {line:?}"), || {
            let text = fs::read_to_string(self.at("status")).ok()?;
            text.lines().find(|found| found.starts_with(line)).map(str::to_owned)
        })
    }

    /// The only directory under `parent` whose name ends so.
    pub fn directory(&self, parent: &str, ending: &str) -> PathBuf {
        let found: Vec<PathBuf> = entries(&self.at(parent))
            .into_iter()
            .filter(|path| path.is_dir() && path.to_string_lossy().ends_with(ending))
            .collect();
        assert_eq!(found.len(), 1, "{found:?}\n{}", tree(&self.root));
        found.into_iter().next().unwrap()
    }

    /// Waits until everybody whom a message of ours goes to has come to one of these states, and hands out the text.
    pub fn wait_for_states(&self, message: &Path, states: &[&str]) -> String {
        self.wait_for(&format!("{states:?} of {}", message.display()), || {
            let text = self.delivery(message);
            let mut recipients = text.lines().filter_map(|line| line.strip_prefix("to: ")).peekable();
            let has_come = |line: &str| line.split(' ').nth(1).is_some_and(|state| states.contains(&state));
            (recipients.peek().is_some() && recipients.all(has_come)).then_some(text.clone())
        })
    }

    /// Waits until the servers of all recipients have a message: they may have it themselves by then.
    pub fn wait_until_accepted(&self, message: &Path) -> String {
        self.wait_for_states(message, &["accepted", "delivered"])
    }

    /// Waits until all recipients have acknowledged a message.
    pub fn wait_until_delivered(&self, message: &Path) -> String {
        self.wait_for_states(message, &["delivered"])
    }

    /// The `.delivery/` text beside a message.
    pub fn delivery(&self, message: &Path) -> String {
        let path = message.parent().unwrap().join(".delivery").join(message.file_name().unwrap());
        fs::read_to_string(path).unwrap_or_default()
    }
}

/// Removes a directory that a daemon may be writing to: what it makes meanwhile is removed as well.
pub fn remove_tree(directory: impl AsRef<Path>) {
    while let Err(error) = fs::remove_dir_all(&directory) {
        assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{}: {error}", directory.as_ref().display());
    }
}

pub fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}
