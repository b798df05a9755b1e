//! How the inner loops come by the vectors of the machine that they run on.

/// Compiles a function for several sets of vector instructions. The call takes the best that the machine has, which is
/// found out at run time; elsewhere the loops get what the target has at the least.
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
