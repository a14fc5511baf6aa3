//! Counters: one enum per stage; each drop reason is its own counter.
//!
//! Units: events, unless the name says bytes. Counters wrap at 2^64, which is never.

/// Declares one stage's counter enum with its names as the console prints them.
#[macro_export]
macro_rules! counter_stage {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
        #[repr(usize)]
        $vis enum $name { $($(#[$doc])* $variant,)* }

        impl $crate::counters::Stage for $name {
            const NAMES: &'static [&'static str] = &[$($text,)*];
            fn index(self) -> usize { self as usize }
        }
    };
}

/// A stage's set of counters.
pub trait Stage: Copy {
    /// Names in index order, lower case with dashes.
    const NAMES: &'static [&'static str];
    /// Position of this counter; below `NAMES.len()`.
    fn index(self) -> usize;
}

/// The values of one stage; `N` is at least the stage's number of counters.
#[derive(Clone, Debug)]
pub struct Counts<S: Stage, const N: usize = 48> {
    values: [u64; N],
    stage: core::marker::PhantomData<S>,
}

impl<S: Stage, const N: usize> Counts<S, N> {
    /// All zero.
    pub const fn new() -> Self {
        assert!(
            S::NAMES.len() <= N,
            "a stage has more counters than its table"
        );
        Self {
            values: [0; N],
            stage: core::marker::PhantomData,
        }
    }

    /// Counts one event.
    pub fn bump(&mut self, counter: S) {
        self.add(counter, 1);
    }

    /// Adds `n` to a counter.
    pub fn add(&mut self, counter: S, n: u64) {
        self.values[counter.index()] = self.values[counter.index()].wrapping_add(n);
    }

    /// The value of a counter.
    pub fn get(&self, counter: S) -> u64 {
        self.values[counter.index()]
    }

    /// Name and value of each counter, in declaration order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        S::NAMES.iter().copied().zip(self.values.iter().copied())
    }
}

impl<S: Stage, const N: usize> Default for Counts<S, N> {
    fn default() -> Self {
        Self::new()
    }
}
