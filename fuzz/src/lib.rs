//! What the fuzz targets check. `tests/fuzz_corpus.rs` checks the same on every input that is kept in `corpus/`.

pub mod card;
pub mod envelope;
pub mod header;
mod hostile;
mod input;
pub mod journal;
pub mod payload;
pub mod prekey;
pub mod profile;
mod proto;
mod receiver;
mod rng;
pub mod session;
mod stored;
