//! Run-time dispatch of the inner loops to the vector instructions of the machine.

/// Compiles a function for several sets of vector instructions. A call uses the best one that the machine has, detected
/// at run time; other targets use their baseline instruction set.
///
/// An inner loop takes its inputs by value: behind a reference they might alias what the loop writes, for all the
/// compiler knows, and it would not vectorise. For the same reason everything that it calls is `#[inline(always)]`.
macro_rules! vectorised {
    ($($function:item)+) => {$(
        #[multiversion::multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2",
            "x86_64+avx2+bmi2",
            "aarch64+neon",
        ))]
        $function
    )+};
}
pub(super) use vectorised;
