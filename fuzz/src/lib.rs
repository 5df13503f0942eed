//! What the fuzz targets check. `tests/fuzz_corpus.rs` checks the same on every input that is kept in `corpus/`.

pub mod journal;
