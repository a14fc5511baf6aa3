//! Objects whose every byte is a function of a seed and an offset, so that nobody needs a copy to compare with.
//!
//! Units: bytes. No two offsets of an object repeat a run, so a byte from a wrong place shows.

/// The 8 bytes at `index * 8`.
fn word(seed: u64, index: u64) -> [u8; 8] {
    let mut z = seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)).to_le_bytes()
}

/// Writes the object's bytes from `offset` on into `buffer`.
pub fn fill(seed: u64, offset: u64, buffer: &mut [u8]) {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        let bytes = word(seed, at / 8);
        let skip = (at % 8) as usize;
        let take = (8 - skip).min(buffer.len() - done);
        buffer[done..done + take].copy_from_slice(&bytes[skip..skip + take]);
        done += take;
    }
}

/// The offset of the first byte of `bytes` that is not the object's, when they stand at `offset`.
pub fn first_wrong(seed: u64, offset: u64, bytes: &[u8]) -> Option<u64> {
    let mut done = 0;
    while done < bytes.len() {
        let at = offset + done as u64;
        let expected = word(seed, at / 8);
        let skip = (at % 8) as usize;
        let take = (8 - skip).min(bytes.len() - done);
        let (want, got) = (&expected[skip..skip + take], &bytes[done..done + take]);
        if want != got {
            let wrong = want.iter().zip(got).position(|(a, b)| a != b)?;
            return Some(at + wrong as u64);
        }
        done += take;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_piece_equals_the_same_piece_of_the_whole() {
        let mut whole = [0; 200];
        fill(7, 1_000, &mut whole);
        for from in 0..30 {
            let mut piece = [0; 50];
            fill(7, 1_000 + from as u64, &mut piece);
            assert_eq!(piece, whole[from..from + 50]);
        }
    }

    #[test]
    fn a_wrong_byte_is_found_where_it_is() {
        let mut bytes = [0; 100];
        fill(7, 13, &mut bytes);
        assert_eq!(first_wrong(7, 13, &bytes), None);
        bytes[41] ^= 1;
        assert_eq!(first_wrong(7, 13, &bytes), Some(54));
    }

    #[test]
    fn bytes_of_another_offset_or_object_are_wrong_at_once() {
        let mut bytes = [0; 16];
        fill(7, 64, &mut bytes);
        assert!(first_wrong(7, 65, &bytes).is_some_and(|at| at < 68));
        assert!(first_wrong(8, 64, &bytes).is_some_and(|at| at < 68));
    }
}
