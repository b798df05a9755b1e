//! The floating-point mode of a thread.
//!
//! Frameworks disable subnormal numbers in their threads (TensorFlow and XLA in those that call back, torch on request), and new threads
//! inherit that. Rust assumes the default mode.

#![expect(unsafe_code, reason = "the mode is a register")]

/// Runs work in the default mode, and restores the thread's own mode.
pub(crate) fn with_default<R>(work: impl FnOnce() -> R) -> R {
    /// Restores a mode on drop, also after a panic.
    struct Restore(Mode);
    impl Drop for Restore {
        fn drop(&mut self) {
            set(self.0);
        }
    }
    let own = get();
    if own & MASK == DEFAULT {
        return work();
    }
    let _restore = Restore(own);
    set(DEFAULT);
    work()
}

#[cfg(target_arch = "x86_64")]
use x86_64::{DEFAULT, MASK, Mode, get, set};

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::asm;

    pub(super) type Mode = u32;

    /// All exceptions masked, rounded to nearest, subnormals kept.
    pub(super) const DEFAULT: Mode = 0x1f80;

    /// Without the exception status flags.
    pub(super) const MASK: Mode = !0x3f;

    pub(super) fn get() -> Mode {
        let mut mode: Mode = 0;
        // SAFETY: writes the register to these four bytes.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut mode, options(nostack, preserves_flags)) };
        mode
    }

    pub(super) fn set(mode: Mode) {
        // SAFETY: the mode is the default one, or the thread's previous one.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &mode, options(nostack, readonly, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
use aarch64::{DEFAULT, MASK, Mode, get, set};

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use std::arch::asm;

    pub(super) type Mode = u64;

    /// Rounded to nearest, subnormals kept.
    pub(super) const DEFAULT: Mode = 0;
    pub(super) const MASK: Mode = !0;

    pub(super) fn get() -> Mode {
        let mode: Mode;
        // SAFETY: only reads the register.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nomem, nostack, preserves_flags)) };
        mode
    }

    pub(super) fn set(mode: Mode) {
        // SAFETY: the mode is the default one, or the thread's previous one.
        unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nomem, nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use other::{DEFAULT, MASK, Mode, get, set};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod other {
    pub(super) type Mode = u32;
    pub(super) const DEFAULT: Mode = 0;
    pub(super) const MASK: Mode = !0;

    pub(super) fn get() -> Mode {
        DEFAULT
    }

    pub(super) fn set(_: Mode) {}
}
