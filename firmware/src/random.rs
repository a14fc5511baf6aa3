//! Random numbers that a stranger cannot foretell: initial sequence numbers, ports, DNS and DHCP identifiers.
//!
//! Follows: fast key erasure (D. J. Bernstein, "Fast-key-erasure random-number generators", 2017) over ChaCha20
//! (RFC 8439); entropy is taken in by keyed BLAKE2s (RFC 7693).
//!
//! ```text
//! key ──ChaCha20──▶ 32 bytes: the next key │ 96 bytes: given out, each wiped as it goes
//! key' = BLAKE2s(key, what is absorbed)
//! ```
//!
//! Who reads the router's memory learns nothing of the numbers given out before. What one boot starts from is
//! [`BootEntropy`]; the seed it came with is replaced in flash before the first number is used.
//!
//! Budget: 132 bytes a generator. A refill is two ChaCha blocks and one copy.
//!
//! Not done: there is no hardware source on any supported board. A router's very first boot has nothing but timings
//! and addresses, and a board that cannot write its seed has only the boot counter beside them.

use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, KeyInit, Update};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use smoltcp::time::Instant;

use crate::budget::{ABSORB_INTERVAL, ARRIVALS_ABSORBED};

/// Bytes of a seed, and of a key.
pub const SEED_BYTES: usize = 32;

/// Bytes given out by one key: with the next key two ChaCha blocks.
const POOL_BYTES: usize = 96;

/// A generator.
#[derive(Clone)]
pub struct Random {
    key: [u8; SEED_BYTES],
    pool: [u8; POOL_BYTES],
    /// Bytes of the pool not given out yet: its last ones.
    left: u8,
}

impl core::fmt::Debug for Random {
    /// Shows nothing of the state.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Random")
    }
}

impl Random {
    /// A generator that must not be used yet: the value of statics that have no seed so far.
    pub const UNSEEDED: Self = Self::new([0; SEED_BYTES]);

    /// Starts from a seed; equal seeds give equal streams.
    pub const fn new(seed: [u8; SEED_BYTES]) -> Self {
        Self {
            key: seed,
            pool: [0; POOL_BYTES],
            left: 0,
        }
    }

    /// For tests and simulations: the stream that belongs to a small number.
    pub const fn repeatable(number: u64) -> Self {
        let mut seed = [0; SEED_BYTES];
        let bytes = number.to_le_bytes();
        let mut index = 0;
        while index < bytes.len() {
            seed[index] = bytes[index];
            index += 1;
        }
        Self::new(seed)
    }

    /// Fills `out`.
    pub fn fill(&mut self, out: &mut [u8]) {
        let mut rest = out;
        while !rest.is_empty() {
            if self.left == 0 {
                self.refill();
            }
            let from = POOL_BYTES - usize::from(self.left);
            let count = rest.len().min(usize::from(self.left));
            let (head, tail) = rest.split_at_mut(count);
            let given = &mut self.pool[from..from + count];
            head.copy_from_slice(given);
            given.fill(0);
            // `count <= left`, a `u8`.
            self.left -= count as u8;
            rest = tail;
        }
    }

    /// 16 bits.
    pub fn next_u16(&mut self) -> u16 {
        let mut bytes = [0; 2];
        self.fill(&mut bytes);
        u16::from_le_bytes(bytes)
    }

    /// 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number below `bound`, each equally likely (Lemire, "Fast Random Integer Generation in an Interval", 2019);
    /// 0 for `bound` 0. Draws again with a probability below `bound / 2^32`.
    pub fn below(&mut self, bound: u32) -> u32 {
        let Some(uneven) = bound.wrapping_neg().checked_rem(bound) else {
            return 0;
        };
        loop {
            let product = u64::from(self.next_u32()) * u64::from(bound);
            if product as u32 >= uneven {
                return (product >> 32) as u32;
            }
        }
    }

    /// Takes entropy in: the stream goes on from a key that depends on `bytes` and on everything before.
    /// Known or chosen bytes do no harm.
    pub fn absorb(&mut self, bytes: &[u8]) {
        self.absorb_parts(|take| take(bytes));
    }

    /// As [`absorb`](Self::absorb), of what `parts` hands over piece by piece.
    fn absorb_parts(&mut self, parts: impl FnOnce(&mut dyn FnMut(&[u8]))) {
        let mut mac = Blake2sMac256::new(&self.key.into());
        parts(&mut |bytes| mac.update(bytes));
        self.key = mac.finalize_fixed().into();
        // What is left of the pool knows nothing of `bytes`.
        self.pool.fill(0);
        self.left = 0;
    }

    /// A second generator, independent of what this one gives out from now on.
    pub fn fork(&mut self) -> Self {
        let mut seed = [0; SEED_BYTES];
        self.fill(&mut seed);
        Self::new(seed)
    }

    /// What to keep for the next boot: tells nothing about this boot's numbers.
    pub fn seed_for_next_boot(&mut self) -> [u8; SEED_BYTES] {
        let mut seed = [0; SEED_BYTES];
        self.fill(&mut seed);
        seed
    }

    fn refill(&mut self) {
        let mut stream = [0; SEED_BYTES + POOL_BYTES];
        // One key is used once, so its nonce may be constant.
        ChaCha20::new(&self.key.into(), &[0; 12].into()).apply_keystream(&mut stream);
        let (key, pool) = stream.split_at(SEED_BYTES);
        self.key.copy_from_slice(key);
        self.pool.copy_from_slice(pool);
        self.left = POOL_BYTES as u8;
    }
}

/// Everything a board knows at boot that others may not.
#[derive(Clone, Copy, Debug)]
pub struct BootEntropy<'a> {
    /// The seed that the last boot left in flash.
    pub stored: Option<[u8; SEED_BYTES]>,
    /// Starts since power-up: two boots from one stored seed (it could not be written) differ by it.
    pub boots: u32,
    /// Addresses of the ports, in order: two boards with nothing else differ by them.
    pub macs: &'a [[u8; 6]],
    /// Timings: readings of a fast counter between slow operations, at least 64.
    pub jitter: &'a [u32],
}

impl BootEntropy<'_> {
    /// The generator of this boot. Replace the stored seed by [`Random::seed_for_next_boot`] before anything that was
    /// drawn leaves the router.
    pub fn generator(&self) -> Random {
        let mut random = Random::new(self.stored.unwrap_or([0; SEED_BYTES]));
        // Lengths go first, so that no two sources can be taken for each other.
        let mut head = [0; 13];
        head[0] = u8::from(self.stored.is_some());
        head[1..5].copy_from_slice(&self.boots.to_le_bytes());
        head[5..9].copy_from_slice(&(self.macs.len() as u32).to_le_bytes());
        head[9..].copy_from_slice(&(self.jitter.len() as u32).to_le_bytes());
        random.absorb_parts(|take| {
            take(&head);
            self.macs.iter().for_each(|mac| take(mac));
            self.jitter
                .iter()
                .for_each(|reading| take(&reading.to_le_bytes()));
        });
        random
    }
}

/// When an arrival's time is worth absorbing: each of the first ones, later one now and then.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stirring {
    absorbed: u8,
    next: Option<Instant>,
}

impl Stirring {
    /// Whether an arrival now is to be absorbed; counts it if so.
    pub fn is_due(&mut self, now: Instant) -> bool {
        if self.absorbed < ARRIVALS_ABSORBED {
            self.absorbed += 1;
            return true;
        }
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        self.next = Some(now + ABSORB_INTERVAL);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    /// RFC 8439 appendix A.1, test vectors 1 and 2: key and nonce zero, counters 0 and 1.
    const ZERO_KEY: &str = "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7\
        da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586\
        9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed\
        29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f";

    fn entropy() -> BootEntropy<'static> {
        BootEntropy {
            stored: Some([7; SEED_BYTES]),
            boots: 1,
            macs: &[[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
            jitter: &[10, 20, 31],
        }
    }

    fn first_numbers(entropy: &BootEntropy<'_>) -> [u8; 64] {
        let mut out = [0; 64];
        entropy.generator().fill(&mut out);
        out
    }

    #[test]
    fn what_is_given_out_is_the_published_keystream_behind_the_next_key() {
        let stream = hex(ZERO_KEY);
        let mut random = Random::new([0; SEED_BYTES]);
        let mut out = [0; POOL_BYTES];
        random.fill(&mut out);
        assert_eq!(out[..], stream[SEED_BYTES..]);
        assert_eq!(random.key[..], stream[..SEED_BYTES]);
        // The next refill runs on the key that the stream itself gave.
        let key: [u8; SEED_BYTES] = stream[..SEED_BYTES].try_into().unwrap();
        let mut next = [0; POOL_BYTES];
        random.fill(&mut next);
        let mut same = [0; POOL_BYTES];
        Random::new(key).fill(&mut same);
        assert_eq!(next, same);
    }

    #[test]
    fn absorbing_is_keyed_blake2s_as_published() {
        // The first entry of the keyed BLAKE2s known-answer file: key 00..1f, no input.
        let mut random = Random::new(core::array::from_fn(|index| index as u8));
        random.absorb(&[]);
        assert_eq!(
            random.key[..],
            hex("48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49")
        );
    }

    #[test]
    fn pieces_of_any_size_are_the_same_stream() {
        let mut whole = [0; 1000];
        Random::repeatable(3).fill(&mut whole);
        let mut random = Random::repeatable(3);
        let mut pieces = Vec::new();
        for size in (1..200).cycle() {
            let mut piece = vec![0; size];
            random.fill(&mut piece);
            pieces.extend(piece);
            if pieces.len() >= whole.len() {
                break;
            }
        }
        assert_eq!(pieces[..whole.len()], whole);
    }

    #[test]
    fn what_was_given_out_is_not_in_memory_any_more() {
        let mut random = Random::repeatable(9);
        let mut out = [0; 20];
        random.fill(&mut out);
        let state: Vec<u8> = random.key.iter().chain(&random.pool).copied().collect();
        assert!(!state.windows(4).any(|four| four == &out[..4]));
        assert!(!state.windows(4).any(|four| four == &out[16..]));
    }

    #[test]
    fn a_number_below_a_bound_is_in_it_and_every_one_comes() {
        let mut random = Random::repeatable(1);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[random.below(7) as usize] += 1;
        }
        // 1,000 expected of each, deviation 29: six of them.
        assert!(
            seen.iter().all(|&count| count.abs_diff(1000) < 180),
            "{seen:?}"
        );
        // The largest bounds, where half of all draws must be drawn again.
        for _ in 0..100 {
            assert!(random.below(0x8000_0001) <= 0x8000_0000);
        }
    }

    #[test]
    fn a8_equal_timings_still_give_other_numbers_when_the_stored_seed_or_the_boot_count_differs() {
        let base = entropy();
        let cases = [
            base,
            BootEntropy {
                stored: None,
                ..base
            },
            BootEntropy {
                stored: Some([0; SEED_BYTES]),
                ..base
            },
            BootEntropy {
                stored: Some([8; SEED_BYTES]),
                ..base
            },
            BootEntropy { boots: 2, ..base },
            BootEntropy {
                macs: &[[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 3]],
                ..base
            },
            BootEntropy {
                jitter: &[10, 20, 32],
                ..base
            },
            BootEntropy {
                jitter: &[10, 20, 31, 0],
                ..base
            },
        ];
        for (index, case) in cases.iter().enumerate() {
            assert_eq!(first_numbers(case), first_numbers(case));
            for other in &cases[index + 1..] {
                assert_ne!(
                    first_numbers(case),
                    first_numbers(other),
                    "{case:?} {other:?}"
                );
            }
        }
    }

    #[test]
    fn a8_ten_boots_that_hand_the_seed_on_share_no_number_and_do_not_count() {
        let mut stored = None;
        let mut seen: Vec<u32> = Vec::new();
        for _ in 0..10 {
            // Power-ups with one timing: the seed alone makes the difference.
            let mut random = BootEntropy {
                stored,
                ..entropy()
            }
            .generator();
            stored = Some(random.seed_for_next_boot());
            seen.push(random.next_u32());
        }
        let mut sorted = seen.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), seen.len());
        let steps: Vec<u32> = seen
            .windows(2)
            .map(|two| two[1].wrapping_sub(two[0]))
            .collect();
        assert!(steps.windows(2).all(|two| two[0] != two[1]), "{seen:?}");
    }

    #[test]
    fn a8_the_seed_of_the_next_boot_does_not_tell_what_this_boot_draws() {
        let mut random = entropy().generator();
        let next = random.seed_for_next_boot();
        let mut drawn = [0; 32];
        random.fill(&mut drawn);
        let mut from_next = [0; 32];
        Random::new(next).fill(&mut from_next);
        assert_ne!(drawn, from_next);
        assert_ne!(drawn, next);
    }

    #[test]
    fn what_is_absorbed_later_counts_at_once() {
        let mut first = Random::repeatable(5);
        first.next_u16();
        let mut second = first.clone();
        second.absorb(b"a packet came at 17 us");
        assert_ne!(first.next_u64(), second.next_u64());
    }

    #[test]
    fn the_first_arrivals_count_and_then_one_in_a_while() {
        let mut stirring = Stirring::default();
        let at = |ms| Instant::from_millis(ms);
        assert!((0..ARRIVALS_ABSORBED).all(|index| stirring.is_due(at(i64::from(index)))));
        assert!(stirring.is_due(at(300)));
        assert!(!stirring.is_due(at(301)));
        assert!(
            !stirring.is_due(at(300) + ABSORB_INTERVAL - smoltcp::time::Duration::from_micros(1))
        );
        assert!(stirring.is_due(at(300) + ABSORB_INTERVAL));
    }

    #[test]
    fn a_fork_goes_its_own_way() {
        let mut random = Random::repeatable(5);
        let mut fork = random.fork();
        assert_ne!(fork.next_u64(), random.next_u64());
    }
}
