//! Compiles `proto/` with protox, so that no system `protoc` is needed, and links RocksDB's system library where the
//! scripts say where it is.

/// Packages whose messages hold secret keys or private text: they get no `Debug`. Each path starts with a dot; without
/// it prost takes the path for the end of a name, finds none, and says nothing.
const SECRET: &[&str] = &[".chatterbox.state", ".chatterbox.payload", ".chatterbox.journal"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["proto/frame.proto", "proto/profile.proto", "proto/payload.proto", "proto/state.proto", "proto/journal.proto"];
    println!("cargo:rerun-if-changed=proto");
    prost_build::Config::new().skip_debug(SECRET).compile_fds(protox::compile(files, ["proto"])?)?;
    Ok(())
}
