//! `chatterbox`: the command line. It works on the directory only, never on the network.

use std::process::ExitCode;

fn main() -> ExitCode {
    chatterbox::app::client::main(std::env::args_os())
}
