//! The wire (design, sections 4 and 6).

/// An envelope, always. Fixed by the design: one size hides what is inside.
pub const ENVELOPE_BYTES: usize = 16_384;

/// The plaintext of every frame after the handshake. Fixed by the design: an envelope and 256 bytes for the request
/// around it.
pub const FRAME_BYTES: usize = 16_640;

/// What Poly1305 adds to every box.
pub const BOX_OVERHEAD_BYTES: usize = 16;

/// The body of a request, reply or push inside its frame: what remains after the two bytes of its length.
pub const FRAME_BODY_BYTES_MAX: usize = FRAME_BYTES - 2;

/// The protocol version that the first request of a connection names.
pub const PROTOCOL_VERSION: u32 = 1;
