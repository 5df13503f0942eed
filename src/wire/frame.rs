//! The plaintext of a frame: one size for every request, reply and push (design, section 4).
//!
//! ```text
//! 0      2       length of the body, little-endian
//! 2      length  body, a protobuf message
//! …      16,640  zeros, checked
//! ```

use super::Malformed;
use crate::limits::{FRAME_BODY_BYTES_MAX, FRAME_BYTES};

/// Puts `body` into a frame's plaintext of exactly [`FRAME_BYTES`].
///
/// # Errors
/// [`Malformed`] if the body is longer than [`FRAME_BODY_BYTES_MAX`].
pub fn pad(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    if body.len() > FRAME_BODY_BYTES_MAX {
        return Err(Malformed::new("frame", "body too long"));
    }
    let mut frame = Vec::with_capacity(FRAME_BYTES);
    let length = u16::try_from(body.len()).map_err(|_| Malformed::new("frame", "body too long"))?;
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(body);
    frame.resize(FRAME_BYTES, 0);
    Ok(frame)
}

/// The body of a frame's plaintext.
///
/// # Errors
/// [`Malformed`] if the size, the length or the padding is not as it must be.
pub fn unpad(frame: &[u8]) -> Result<&[u8], Malformed> {
    if frame.len() != FRAME_BYTES {
        return Err(Malformed::new("frame", "not 16,640 bytes"));
    }
    let (length, rest) = frame.split_at(2);
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    if length > rest.len() {
        return Err(Malformed::new("frame", "length beyond its end"));
    }
    let (body, padding) = rest.split_at(length);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Malformed::new("frame", "padding is not zero"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_that_fits_comes_back() {
        for length in [0, 1, 255, 256, FRAME_BODY_BYTES_MAX] {
            let body = vec![0xa5; length];
            let frame = pad(&body).unwrap();
            assert_eq!(frame.len(), FRAME_BYTES);
            assert_eq!(unpad(&frame).unwrap(), body);
        }
        assert!(pad(&vec![0; FRAME_BODY_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_length_beyond_the_end_and_dirty_padding_are_refused() {
        let mut frame = pad(b"body").unwrap();
        frame[FRAME_BYTES - 1] = 1;
        assert_eq!(unpad(&frame).unwrap_err().problem, "padding is not zero");
        frame[0] = 0xff;
        frame[1] = 0xff;
        assert_eq!(unpad(&frame).unwrap_err().problem, "length beyond its end");
        assert_eq!(unpad(&frame[1..]).unwrap_err().problem, "not 16,640 bytes");
    }
}
