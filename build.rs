//! Compiles `proto/` with protox, so that no system `protoc` is needed, and links RocksDB's system library where the
//! scripts say where it is.

/// Messages that hold secret keys or private text: they get no `Debug`.
const SECRET: &[&str] = &["chatterbox.state", "chatterbox.payload", "chatterbox.journal"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["proto/frame.proto", "proto/profile.proto", "proto/payload.proto", "proto/state.proto", "proto/journal.proto"];
    println!("cargo:rerun-if-changed=proto");
    prost_build::Config::new().skip_debug(SECRET).compile_fds(protox::compile(files, ["proto"])?)?;
    Ok(())
}
