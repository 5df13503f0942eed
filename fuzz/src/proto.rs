//! Protobuf by hand, for what the library's own types would not say.

use super::input::Input;

/// Nobody nests deeper.
const DEPTH_MAX: u32 = 3;
const FIELDS_MAX: usize = 24;

pub fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value > 0x7f {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

pub fn number(field: u8, value: u64, into: &mut Vec<u8>) {
    varint(u64::from(field) << 3, into);
    varint(value, into);
}

pub fn bytes(field: u8, value: &[u8], into: &mut Vec<u8>) {
    varint(u64::from(field) << 3 | 2, into);
    varint(value.len() as u64, into);
    into.extend_from_slice(value);
}

/// A message of any fields: numbers, bytes, messages, keys that are long enough, and what `special` makes of the input.
///
/// | byte | field |
/// |---:|---|
/// | 0 | the end |
/// | low 4 bits | its number |
/// | high 3 bits of 4 | number, bytes, message, 16, 32, 64 bytes, special, many bytes |
pub fn message(input: &mut Input<'_>, depth: u32, special: &mut impl FnMut(&mut Input<'_>) -> Vec<u8>) -> Vec<u8> {
    let mut built = Vec::new();
    for _ in 0..FIELDS_MAX {
        let kind = input.byte();
        let field = kind & 15;
        if field == 0 {
            break;
        }
        match kind >> 4 & 7 {
            0 => number(field, input.number(), &mut built),
            1 => bytes(field, input.chunk(), &mut built),
            2 if depth < DEPTH_MAX => {
                let inner = message(input, depth + 1, special);
                bytes(field, &inner, &mut built);
            }
            2 => bytes(field, &[], &mut built),
            3 => bytes(field, &input.array::<16>(), &mut built),
            4 => bytes(field, &input.array::<32>(), &mut built),
            5 => bytes(field, &input.array::<64>(), &mut built),
            6 => bytes(field, &special(input), &mut built),
            _ => {
                let length = input.place(16_384);
                bytes(field, &vec![input.byte(); length], &mut built);
            }
        }
    }
    built
}
