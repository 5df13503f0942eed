//! The client daemon. See `chatterboxd --help`.

fn main() -> std::process::ExitCode {
    chatterbox::app::daemon::main()
}
