//! What the machine lets tests do: who they are, whom else they can be, and what is left out where something is missing.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::DAEMON;

/// Nobody's on a usual machine.
pub const SOMEBODY: u32 = 54_321;

/// Whether we may do everything, and so never see what is forbidden; and can be other users.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A command line for what comes behind it: where we are root it runs as this user, else as ourselves.
pub fn as_user(uid: u32) -> Command {
    let mut command = Command::new("env");
    if is_root() {
        let uid = uid.to_string();
        command.args(["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"]);
    }
    command
}

/// Gives files, with all that is below them, to a user; where we are not root they are ours and stay so.
pub fn give_to<'a>(uid: u32, paths: impl IntoIterator<Item = &'a Path>) {
    if is_root() {
        let given = Command::new("chown").args(["-R", &format!("{uid}:{uid}")]).args(paths).status();
        assert!(given.unwrap().success());
    }
}

/// The daemon, installed below a directory where everybody may run it: what cargo builds can lie below one that is its owner's
/// alone, such as root's home.
pub fn installed(directory: &Path) -> PathBuf {
    let program = directory.join("bin/chatterboxd");
    if !program.exists() {
        // Written by another process: what we had open for writing, whatever another test starts in this moment would have, too.
        let install = Command::new("install").args(["-D", "-m", "755", DAEMON]).arg(&program).status();
        assert!(install.unwrap().success());
    }
    program
}

/// Why a command does not work here; `None` if it does.
pub fn refusal(command: &mut Command) -> Option<String> {
    match command.stdin(Stdio::null()).output() {
        Err(error) => Some(format!("{}: {error}", command.get_program().display())),
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => {
            let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
            Some(if said.is_empty() { format!("{}: {}", command.get_program().display(), tried.status) } else { said })
        }
    }
}

/// Whether something cannot be tested for a reason, which is then said: what is left out must not pass in silence. To the standard
/// error, which is shown of a test that succeeds, too; `scripts/test` counts these lines.
pub fn is_left_out(reason: Option<String>) -> bool {
    let Some(reason) = reason else { return false };
    let thread = std::thread::current();
    let reason = reason.replace('\n', "; ");
    // One write, so that no other line comes between.
    let line = format!("SKIPPED in {}: {reason}\n", thread.name().unwrap_or("a test"));
    let _ = std::io::stderr().write_all(line.as_bytes());
    true
}

/// Why nobody else can be here; `None` where there can be.
pub fn no_other_users(what: &str) -> Option<String> {
    (!is_root()).then(|| format!("{what}: it takes root"))
}

/// Lets everybody pass through a directory of ours.
pub fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}
