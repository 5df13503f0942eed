//! Every size, count and wait that a stranger or a busy day could otherwise stretch, each with the reason for its
//! number. Sizes are bytes, times say their unit in the name.

mod arriving;
mod connections;
mod directory;
mod dropbox;
mod home_server;
mod messages;
mod prekeys;
mod ratchet;
mod recovery;
mod transcripts;
mod wire;

pub use self::arriving::*;
pub use self::connections::*;
pub use self::directory::*;
pub use self::dropbox::*;
pub use self::home_server::*;
pub use self::messages::*;
pub use self::prekeys::*;
pub use self::ratchet::*;
pub use self::recovery::*;
pub use self::transcripts::*;
pub use self::wire::*;
