//! Messages (design, section 4).

/// Content of one message until parts arrive: an envelope less its header and the message's own fields, and a
/// profile beside it.
pub const CONTENT_BYTES_MAX: usize = 10_240;

/// Participants of a conversation: their profiles, at their largest, fill an introduction envelope.
pub const PARTICIPANTS_MAX: usize = 20;

/// A subject, in bytes of UTF-8. It becomes part of a directory's name.
pub const SUBJECT_BYTES_MAX: usize = 200;

/// A sender's file name that travels with a message: what every Linux filesystem can hold.
pub const FILE_NAME_BYTES_MAX: usize = 255;

/// The host of a server's address: the longest DNS name, and longer than any onion name.
pub const HOST_BYTES_MAX: usize = 253;

/// A serialized signed profile. The fields at their largest come to 560.
pub const PROFILE_BYTES_MAX: usize = 640;
