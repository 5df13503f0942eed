//! `dropboxes/`: settings that cannot be understood, directories that others could put something in the place of, and those
//! that their sender cannot come to.

use std::path::Path;

use super::checkup::Checkup;
use crate::app::client::causes;
use crate::client::dropbox::{self, place};
use crate::disk::real::RealDisk;

pub(super) fn check(checkup: &mut Checkup<'_>) {
    let ours = rustix::process::geteuid().as_raw();
    for (file, result) in dropbox::all(checkup.root) {
        let path = Path::new(dropbox::DIRECTORY).join(file);
        let text = match result {
            Ok(found) => match place::check(&RealDisk, &found.directory, checkup.root.path(), ours) {
                Ok(_) => {
                    if let Some(closed) = place::closed_to(&RealDisk, &found.directory, found.uid) {
                        let (problem, remedy) = causes::behind_a_colon(&closed.to_string());
                        checkup.warning("dropbox", &path, problem, &remedy);
                    }
                    continue;
                }
                Err(fault) => fault.to_string(),
            },
            Err(fault) => fault.to_string(),
        };
        let (problem, remedy) = causes::behind_a_colon(&text);
        checkup.error("dropbox", &path, problem, &remedy);
    }
}
