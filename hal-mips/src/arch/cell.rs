//! Statics that are mutable, for a machine with one core whose interrupt handlers run no code of ours.
//!
//! Invariants: I1 a [`MainCell`]'s content is reached by at most one `with` at a time (the flag);
//! I2 a [`TakeCell`] gives its content out once.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A static shared between the main loop and the crash path.
pub struct MainCell<T> {
    busy: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: one core, no threads; the crash path is the only other context, and `busy` keeps it out.
unsafe impl<T> Sync for MainCell<T> {}

impl<T> MainCell<T> {
    /// Wraps the initial value.
    pub const fn new(value: T) -> Self {
        Self {
            busy: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Runs `f` on the content; `None` when it is already in use further up the stack (a crash inside `with`).
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.busy.load(Ordering::Relaxed) {
            return None;
        }
        self.busy.store(true, Ordering::Relaxed);
        // SAFETY: the flag was clear, so no other reference exists (I1).
        let result = f(unsafe { &mut *self.value.get() });
        self.busy.store(false, Ordering::Relaxed);
        Some(result)
    }

    /// As [`with`](Self::with), even when the content is in use: for the crash path, which never returns to that user.
    ///
    /// # Safety
    /// The interrupted user of the content never runs again.
    pub unsafe fn seize<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: the caller vouches that this is the only user from now on.
        f(unsafe { &mut *self.value.get() })
    }
}

/// A static that is handed out once, for ever.
pub struct TakeCell<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `take` gives the only reference, once; one core.
unsafe impl<T> Sync for TakeCell<T> {}

impl<T> TakeCell<T> {
    /// Wraps the initial value.
    pub const fn new(value: T) -> Self {
        Self {
            taken: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// The content, on the first call only.
    #[allow(clippy::mut_from_ref)] // once only: that is the type's purpose (I2)
    pub fn take(&'static self) -> Option<&'static mut T> {
        if self.taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: the flag was clear, so this is the only reference ever made (I2).
        Some(unsafe { &mut *self.value.get() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_refuses_a_second_user() {
        static CELL: MainCell<u32> = MainCell::new(1);
        assert_eq!(
            CELL.with(|value| CELL.with(|_| ()).is_none().then_some(*value)),
            Some(Some(1))
        );
        assert_eq!(CELL.with(|value| *value), Some(1));
    }

    #[test]
    fn a_static_is_given_out_once() {
        static CELL: TakeCell<u32> = TakeCell::new(7);
        assert_eq!(CELL.take().map(|value| *value), Some(7));
        assert!(CELL.take().is_none());
    }
}
