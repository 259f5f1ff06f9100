//! Deltas: an object told as pieces of another (gitformat-pack, "Deltified representation"). Pure.

/// A delta that cannot be applied. A retry does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It ends in the middle.
    #[error("a delta that is cut off")]
    CutOff,
    /// It was made for another base.
    #[error("a delta for an object of {0} bytes")]
    Base(u64),
    /// It copies from beyond the base.
    #[error("a delta that copies from beyond its base")]
    Range,
    /// It makes more or less than it says, or more than is allowed.
    #[error("a delta whose result has another size than it says, or too large a one")]
    Size,
    /// An instruction that is reserved.
    #[error("a delta with a reserved instruction")]
    Instruction,
}

/// Applies a delta to its base; the result may have `most` bytes.
///
/// # Errors
/// If the delta does not fit.
pub fn apply(base: &[u8], delta: &[u8], most: usize) -> Result<Vec<u8>, DeltaError> {
    let mut rest = delta;
    let base_size = size(&mut rest)?;
    if base_size != base.len() as u64 {
        return Err(DeltaError::Base(base_size));
    }
    let result_size = usize::try_from(size(&mut rest)?).ok().filter(|size| *size <= most).ok_or(DeltaError::Size)?;
    // What it says is not believed before it is there.
    let mut result = Vec::with_capacity(result_size.min(1 << 20));
    while let Some(instruction) = next(&mut rest) {
        if instruction & 0x80 != 0 {
            let (mut offset, mut length) = (0usize, 0usize);
            for bit in 0..7 {
                if instruction & (1 << bit) != 0 {
                    let byte = usize::from(next(&mut rest).ok_or(DeltaError::CutOff)?);
                    if bit < 4 { offset |= byte << (8 * bit) } else { length |= byte << (8 * (bit - 4)) }
                }
            }
            let length = if length == 0 { 0x10000 } else { length };
            let piece = base.get(offset..offset + length).ok_or(DeltaError::Range)?;
            result.extend_from_slice(piece);
        } else if instruction != 0 {
            let piece = rest.get(..usize::from(instruction)).ok_or(DeltaError::CutOff)?;
            result.extend_from_slice(piece);
            rest = &rest[piece.len()..];
        } else {
            return Err(DeltaError::Instruction);
        }
        if result.len() > result_size {
            return Err(DeltaError::Size);
        }
    }
    if result.len() == result_size { Ok(result) } else { Err(DeltaError::Size) }
}

fn next(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

/// Seven bits a byte, the lowest first.
fn size(rest: &mut &[u8]) -> Result<u64, DeltaError> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = next(rest).ok_or(DeltaError::CutOff)?;
        if shift > 56 {
            return Err(DeltaError::Size);
        }
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_the_base_and_new_bytes_make_the_result() {
        // "hello" of 5 bytes becomes "lo, hello": copy 2 from 3, insert ", ", copy 5 from 0.
        let delta = [5, 9, 0x91, 3, 2, 2, b',', b' ', 0x90, 5];
        assert_eq!(apply(b"hello", &delta, 100).unwrap(), b"lo, hello");
        assert_eq!(apply(b"hello", &delta, 8), Err(DeltaError::Size));
    }

    #[test]
    fn hostile_deltas_are_refused() {
        assert_eq!(apply(b"hello", &[4, 1, 0x90, 1], 100), Err(DeltaError::Base(4)));
        assert_eq!(apply(b"hello", &[5, 9, 0x91, 3, 9], 100), Err(DeltaError::Range));
        assert_eq!(apply(b"hello", &[5, 9, 0], 100), Err(DeltaError::Instruction));
        assert_eq!(apply(b"hello", &[5, 1, 0x90, 5], 100), Err(DeltaError::Size));
        assert_eq!(apply(b"hello", &[5, 3, 3, b'a'], 100), Err(DeltaError::CutOff));
        assert_eq!(apply(b"hello", &[5, 3, 0xff, 1], 100), Err(DeltaError::CutOff));
        assert_eq!(apply(b"hello", &[0xff; 12], 100), Err(DeltaError::Size));
        assert_eq!(apply(b"", &[], 100), Err(DeltaError::CutOff));
    }
}
