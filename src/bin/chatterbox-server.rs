//! The home server. See `chatterbox-server --help`.

fn main() -> std::process::ExitCode {
    chatterbox::app::server::main()
}
