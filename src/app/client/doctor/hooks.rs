//! `hooks/`: programs that the daemon does not run, and what no hook is called.

use std::path::Path;

use super::checkup::Checkup;
use crate::app::client::causes;
use crate::client::hook_file::{self, Hook};

pub(super) fn check(checkup: &mut Checkup<'_>) {
    for hook in Hook::ALL {
        if let Err(fault) = hook_file::examine(checkup.root, hook) {
            let (problem, remedy) = causes::behind_a_colon(&fault.to_string());
            checkup.warning("hook", &hook.path(), format!("chatterboxd does not run it: {problem}"), &remedy);
        }
    }
    for entry in checkup.entries(Path::new(hook_file::DIRECTORY)) {
        let is_hook = Hook::ALL.iter().any(|hook| entry.name == hook.file_name());
        if !is_hook && !entry.is_hidden() {
            let names = Hook::ALL.map(Hook::file_name).join(", ");
            let remedy = format!("Hooks are called {names}. Rename it if it is meant to be one.");
            checkup.note("hook", &entry.path, "no hook has this name", &remedy);
        }
    }
}
