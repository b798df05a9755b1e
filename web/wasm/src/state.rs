//! What the module holds between calls.

use crate::memory::Buffers;

/// What lasts from call to call.
#[derive(Default)]
pub(crate) struct State {
    pub buffers: Buffers,
    /// The kernels of all plans: their numbers are places here.
    #[cfg(feature = "plan")]
    pub kernels: Vec<wgclip::plan::Kernel>,
    pub response: Response,
    #[cfg(feature = "check")]
    pub check: crate::check::Check,
}

/// What the last call gave.
#[derive(Default)]
pub(crate) struct Response {
    pub words: Vec<f64>,
    pub text: String,
}
