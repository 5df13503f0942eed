//! Running hooks: a few at a time, each in a process group of its own and for a bounded time. Nothing waits for them.

use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::{mpsc, oneshot};
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
        Ok(Ok(Some(running))) => {
            let problem = running.wait(hook, Duration::from_millis(HOOK_TIMEOUT_MS)).await;
            let _ = events.send(Event::HookEnded { hook, problem }).await;
        }
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
    Running::watch(command.spawn()?).map(Some)
}

/// A hook that runs. Dropped, it is ended with all that it has started in its group.
///
/// Some cannot be ended: one that has become another user's, or hangs in the kernel. So nobody waits for one but a thread of its
/// own, which holds up neither the connections nor the daemon's stop.
struct Running {
    child: Child,
    /// Ready when it has ended. Its status stays where it is until then.
    ended: oneshot::Receiver<()>,
    /// Whether its status was asked for. Until then its number, and so its group's, is nobody else's.
    is_asked_for: bool,
}

impl Running {
    fn watch(child: Child) -> io::Result<Self> {
        let (tell, ended) = oneshot::channel();
        let running = Self { child, ended, is_asked_for: false };
        let pid = running.pid();
        let wait = move |options| {
            let wait = || rustix::process::waitid(WaitId::Pid(pid), options).map(drop);
            // There is nothing to be done about an error: whoever asks for the status gets it too.
            let _ = rustix::io::retry_on_intr(wait);
        };
        std::thread::Builder::new().name("hook".to_owned()).spawn(move || {
            wait(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            if tell.send(()).is_err() {
                // Nobody asks for the status any more.
                wait(WaitIdOptions::EXITED);
            }
        })?;
        Ok(running)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Until it has ended, which is seen to when `longest` is over. What went wrong, if something did.
    async fn wait(mut self, hook: Hook, longest: Duration) -> Option<String> {
        let in_time = tokio::time::timeout(longest, &mut self.ended).await.is_ok();
        let hook = hook.file_name();
        self.end();
        let problem = if in_time {
            self.is_asked_for = true;
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => None,
                Ok(Some(status)) => Some(format!("it ended with {status}")),
                Ok(None) => Some("it could not be waited for".to_owned()),
                Err(error) => Some(format!("it could not be waited for: {error}")),
            }
        } else {
            tracing::warn!(hook, "a hook took too long and is ended");
            // One that cannot be ended counts as running, so that there are never more of them than of others.
            let _ = (&mut self.ended).await;
            Some(format!("it took longer than {} and was ended", humantime::format_duration(longest)))
        };
        match &problem {
            Some(problem) => tracing::warn!(hook, problem, "a hook did not end well"),
            None => tracing::debug!(hook, "a hook has run"),
        }
        problem
    }

    /// Ends what is left of its group. Before its status is asked for: until then no other group can have its number.
    fn end(&self) {
        // An error says that nobody is left in it, or that we have no right to: neither changes what is done next.
        let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_asked_for {
            // Also where it has ended itself: what it left in the background has not.
            self.end();
            // If it had ended before, nobody else asks for its status.
            let _ = self.child.try_wait();
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
        (Running::watch(child).unwrap(), pid)
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
            let problem = running.wait(Hook::Message, Duration::from_millis(1)).await;
            assert_eq!(problem.as_deref(), Some("it took longer than 1ms and was ended"));
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

    /// A program that stands for one that cannot be ended: it leads no group, so that no signal reaches it. And its process.
    fn unending() -> (Running, Pid) {
        let child = Command::new("sleep").arg("30").spawn().unwrap();
        let pid = Pid::from_child(&child);
        (Running::watch(child).unwrap(), pid)
    }

    #[test]
    fn a_hook_that_cannot_be_ended_holds_up_nothing_else() {
        runtime().block_on(async {
            let (running, pid) = unending();
            let waiting = running.wait(Hook::Message, Duration::from_millis(1));
            tokio::pin!(waiting);
            // Something else on the same thread gets its turn, after the hook's time was over.
            let other = tokio::time::sleep(Duration::from_millis(20));
            tokio::select! { biased; _ = &mut waiting => panic!("nothing else had a turn"), () = other => {} }
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
            waiting.await;
        });
    }

    #[test]
    fn a_hook_that_cannot_be_ended_does_not_hold_up_the_stop() {
        let runtime = runtime();
        let pid = runtime.block_on(async {
            let (running, pid) = unending();
            tokio::spawn(running.wait(Hook::Message, Duration::from_secs(1_000)));
            tokio::task::yield_now().await;
            pid
        });
        drop(runtime);
        // It is still there.
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        await_end(&pid.as_raw_nonzero().to_string());
    }

    #[test]
    fn what_a_hook_leaves_in_the_background_ends_with_it() {
        let scratch = tempfile::tempdir().unwrap();
        let pid = scratch.path().join("pid");
        runtime().block_on(async {
            let script = format!("sleep 1000 & echo $! >{}", pid.display());
            let child = Command::new("sh").args(["-c", &script]).process_group(0).spawn().unwrap();
            Running::watch(child).unwrap().wait(Hook::Message, Duration::from_secs(1_000)).await;
        });
        await_end(&process(&pid));
    }

    #[test]
    fn what_a_hook_that_has_ended_left_in_the_background_ends_when_the_daemon_stops() {
        let scratch = tempfile::tempdir().unwrap();
        let pid = scratch.path().join("pid");
        let script = format!("sleep 1000 & echo $! >{}", pid.display());
        let child = Command::new("sh").args(["-c", &script]).process_group(0).spawn().unwrap();
        let running = Running::watch(child).unwrap();
        // Until it has ended, without asking for its status.
        rustix::process::waitid(WaitId::Pid(running.pid()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        drop(running);
        await_end(&process(&pid));
    }
}
