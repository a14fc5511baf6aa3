//! Comparison of TCP sequence numbers.
//!
//! Follows: RFC 9293 section 3.4 (arithmetic modulo 2^32).
//! Units: positions in the 32-bit sequence space. Two numbers compare meaningfully only when
//! they are less than 2^31 apart, which the window (at most 2^30) guarantees for live flows.

/// Distance from `b` to `a`, negative when `a` lies before `b`.
#[inline]
pub const fn diff(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

/// `a` lies before `b`.
#[inline]
pub const fn lt(a: u32, b: u32) -> bool {
    diff(a, b) < 0
}

/// `a` lies before `b` or is the same.
#[inline]
pub const fn le(a: u32, b: u32) -> bool {
    diff(a, b) <= 0
}

/// `a` lies after `b`.
#[inline]
pub const fn gt(a: u32, b: u32) -> bool {
    diff(a, b) > 0
}

/// `a` lies after `b` or is the same.
#[inline]
pub const fn ge(a: u32, b: u32) -> bool {
    diff(a, b) >= 0
}

/// The later of two numbers.
#[inline]
pub const fn max(a: u32, b: u32) -> u32 {
    if gt(b, a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_holds_across_the_wrap() {
        assert!(lt(0xFFFF_FFF0, 0x10));
        assert!(gt(0x10, 0xFFFF_FFF0));
        assert_eq!(diff(0x10, 0xFFFF_FFF0), 0x20);
        assert!(le(7, 7) && ge(7, 7) && !lt(7, 7) && !gt(7, 7));
        assert_eq!(max(0xFFFF_FFFF, 0), 0);
    }

    proptest! {
        #[test]
        fn a_number_a_little_further_is_later(base: u32, step in 1u32..=0x7FFF_FFFF) {
            let later = base.wrapping_add(step);
            prop_assert!(lt(base, later) && le(base, later));
            prop_assert!(gt(later, base) && ge(later, base));
            prop_assert_eq!(diff(later, base), step as i32);
            prop_assert_eq!(max(base, later), later);
        }
    }
}
