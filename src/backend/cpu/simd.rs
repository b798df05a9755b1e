//! Run-time dispatch of the inner loops to the vector instructions of the machine.

/// Compiles a function for several sets of vector instructions. The call takes the best that the machine has, found
/// out at run time; other targets use their baseline instruction set.
///
/// What an inner loop uses is handed to it by value: behind a reference it might be what the loop writes, for all the
/// compiler knows, and it would not vectorise. For the same reason all that it calls is `#[inline(always)]`.
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
