//! Running hooks: a few at a time, each in a process group of its own and for a bounded time. Nothing waits for them.

use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::event::Event;
use super::hook_file::{self, Hook};
use super::hooks::Occasion;
use super::root::Root;
use crate::limits::{HOOK_TIMEOUT_MS, HOOKS_RUNNING_MAX};

/// What a hook finds of the daemon's own environment: where it is at home, its language, and how to reach the desktop.
const PASSED: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "PATH",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// Runs hooks as they come, until there can be no more. Dropped, it ends those that run.
pub async fn run(root: Root, mut occasions: mpsc::Receiver<Occasion>, events: mpsc::Sender<Event>) {
    let mut running = JoinSet::new();
    loop {
        while running.len() >= HOOKS_RUNNING_MAX {
            running.join_next().await;
        }
        let Some(occasion) = occasions.recv().await else { return };
        running.spawn(run_one(root.clone(), occasion, events.clone()));
    }
}

async fn run_one(root: Root, occasion: Occasion, events: mpsc::Sender<Event>) {
    let hook = occasion.hook;
    // Behind a look at the disk, which may take its time.
    let started = tokio::task::spawn_blocking(move || start(&root, &occasion)).await;
    match started {
        Ok(Ok(Some(running))) => running.wait(hook, Duration::from_millis(HOOK_TIMEOUT_MS)).await,
        Ok(Err(error)) => {
            tracing::warn!(hook = hook.file_name(), %error, "a hook could not be run");
            // An engine that is gone needs to know nothing.
            let _ = events.send(Event::HookNotStarted { hook, problem: error.to_string() }).await;
        }
        // It is gone, or not to be run any more; or all of this is ending.
        Ok(Ok(None)) | Err(_) => {}
    }
}

fn start(root: &Root, occasion: &Occasion) -> io::Result<Option<Running>> {
    // Looked at once more: it may have waited for long.
    if !matches!(hook_file::examine(root, occasion.hook), Ok(Some(_))) {
        return Ok(None);
    }
    let mut command = Command::new(root.join(occasion.hook.path()));
    command.arg(root.join(&occasion.file)).env_clear().current_dir(root.path());
    command.envs(PASSED.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    command.env("CHATTERBOX_ROOT", root.path()).env("CHATTERBOX_EVENT", occasion.hook.event());
    command.env("CHATTERBOX_FILE", root.join(&occasion.file));
    command.envs(occasion.conversation.iter().map(|place| ("CHATTERBOX_CONVERSATION", root.join(place))));
    command.envs(occasion.variables.iter().map(|(name, value)| (name, value)));
    // What it prints may be content, which no log may hold.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    Ok(Some(Running(command.spawn()?)))
}

/// A hook that runs. Dropped, it is ended with all that it has started in its group.
struct Running(Child);

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Until it has ended, or `longest` is over.
    async fn wait(mut self, hook: Hook, longest: Duration) {
        let pid = self.pid();
        // Its status stays where it is. The thread is free again when the hook has ended, which it does in any case.
        let ended = tokio::task::spawn_blocking(move || {
            let wait = || rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            rustix::io::retry_on_intr(wait).map(drop)
        });
        let in_time = tokio::time::timeout(longest, ended).await.is_ok();
        let hook = hook.file_name();
        match self.end() {
            Ok(_) if !in_time => tracing::warn!(hook, "a hook took too long and was ended"),
            Ok(status) if status.success() => tracing::debug!(hook, "a hook has run"),
            Ok(status) => tracing::warn!(hook, %status, "a hook failed"),
            Err(error) => tracing::warn!(hook, %error, "a hook could not be waited for"),
        }
    }

    /// Ends what is left of its group. Before it is waited for: until then no other group can have its number.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // An error says that nobody is left in it.
        let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
        self.0.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it was waited for there is nothing to end; asking again gives the same answer.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// A program that waits for a child of its own, whose process id it writes to a file, and that file.
    fn hanging(scratch: &std::path::Path) -> (Running, std::path::PathBuf) {
        let pid = scratch.join("pid");
        let script = format!("sleep 1000 & echo $! >{0}.new; mv {0}.new {0}; wait", pid.display());
        let child = Command::new("sh").args(["-c", &script]).process_group(0).spawn().unwrap();
        (Running(child), pid)
    }

    /// The process whose id stands in a file, once it does.
    fn process(file: &std::path::Path) -> String {
        loop {
            if let Ok(text) = fs::read_to_string(file) {
                return text.trim().to_owned();
            }
            std::thread::yield_now();
        }
    }

    /// Waits until a process is gone, or is nothing but a status that nobody has asked for.
    fn await_end(pid: &str) {
        let is_there =
            |text: String| text.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'));
        while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(is_there) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_hook_that_hangs_is_ended_with_what_it_has_started() {
        let scratch = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let (running, file) = hanging(scratch.path());
            let pid = process(&file);
            running.wait(Hook::Message, Duration::from_millis(1)).await;
            await_end(&pid);
        });
    }

    #[test]
    fn a_hook_that_runs_when_the_daemon_stops_is_ended() {
        let scratch = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let pid = runtime.block_on(async {
            let (running, file) = hanging(scratch.path());
            let pid = process(&file);
            tokio::spawn(running.wait(Hook::Message, Duration::from_secs(1_000)));
            tokio::task::yield_now().await;
            pid
        });
        drop(runtime);
        await_end(&pid);
    }

    #[test]
    fn what_a_hook_leaves_in_the_background_ends_with_it() {
        let scratch = tempfile::tempdir().unwrap();
        let pid = scratch.path().join("pid");
        runtime().block_on(async {
            let script = format!("sleep 1000 & echo $! >{}", pid.display());
            let child = Command::new("sh").args(["-c", &script]).process_group(0).spawn().unwrap();
            Running(child).wait(Hook::Message, Duration::from_secs(1_000)).await;
        });
        await_end(&process(&pid));
    }
}
