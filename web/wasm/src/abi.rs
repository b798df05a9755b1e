//! What JavaScript calls. No pointer comes in: buffers have handles, and JavaScript writes into them between calls.

use std::sync::{Mutex, MutexGuard, PoisonError};

use wgclip::{Error, Result};

use crate::memory::Buffers;
use crate::request::{Request, malformed};

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

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn with_state<R>(work: impl FnOnce(&mut State) -> R) -> R {
    let mut state: MutexGuard<'_, Option<State>> = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    work(state.get_or_insert_default())
}

/// Calls a function by its number: those of `Call` in core.ts.
fn run(function: usize, state: &mut State, request: &mut Request) -> Result<()> {
    match function {
        0 => crate::names::names(state),
        10 => crate::request::check_bounds(request),
        #[cfg(feature = "plan")]
        1 => crate::plan::source(state, request),
        #[cfg(feature = "plan")]
        2 => crate::plan::op(state, request),
        #[cfg(feature = "plan")]
        3 => crate::plan::global_norm(state, request),
        #[cfg(feature = "plan")]
        6 => crate::plan::mask(state, request),
        #[cfg(feature = "cpu")]
        4 => crate::cpu::op(state, request),
        #[cfg(feature = "cpu")]
        5 => crate::cpu::global_norm(state, request),
        #[cfg(feature = "check")]
        7 => crate::check::start(state, request),
        #[cfg(feature = "check")]
        8 => crate::check::next(state),
        #[cfg(feature = "check")]
        9 => crate::check::compare(state, request),
        _ => Err(malformed()),
    }
}

/// Memory of so many bytes, as a handle; 0 if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn allocate(bytes: usize) -> usize {
    with_state(|state| state.buffers.allocate(bytes))
}

/// Where a buffer is.
#[unsafe(no_mangle)]
pub extern "C" fn address(handle: usize) -> usize {
    with_state(|state| state.buffers.address(handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn release(handle: usize) {
    with_state(|state| state.buffers.release(handle));
}

/// Calls a function with the first words of a buffer. Returns 0, or the code of an error.
#[unsafe(no_mangle)]
pub extern "C" fn call(function: usize, request: usize, words: usize) -> u32 {
    with_state(|state| {
        let mut request = Request::new(state.buffers.words(request, words));
        state.response.words.clear();
        state.response.text.clear();
        run(function, state, &mut request).map_or_else(
            |error| {
                state.response.text = error.to_string();
                code(&error)
            },
            |()| 0,
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn response() -> usize {
    with_state(|state| state.response.words.as_ptr().addr())
}

#[unsafe(no_mangle)]
pub extern "C" fn response_words() -> usize {
    with_state(|state| state.response.words.len())
}

#[unsafe(no_mangle)]
pub extern "C" fn text() -> usize {
    with_state(|state| state.response.text.as_ptr().addr())
}

#[unsafe(no_mangle)]
pub extern "C" fn text_bytes() -> usize {
    with_state(|state| state.response.text.len())
}

/// In the order of `CODES` in errors.ts, from 1.
fn code(error: &Error) -> u32 {
    match error {
        Error::NanBound { .. }
        | Error::FractionalBound { .. }
        | Error::ImpossibleBound { .. }
        | Error::NoBound { .. } => 1,
        Error::LengthMismatch { .. }
        | Error::ShapeMismatch { .. }
        | Error::BroadcastMismatch { .. }
        | Error::TooManyAxes { .. }
        | Error::TypeMismatch { .. } => 2,
        Error::RuleWithoutKernel { .. } | Error::UnknownRule { .. } | Error::UnknownName { .. } => 3,
        Error::InvalidLimit { .. } => 4,
        Error::NonFiniteNorm { .. } => 5,
        Error::Unsupported { .. } | Error::TooLarge { .. } => 6,
        Error::OutOfMemory { .. } => 7,
        _ => 8,
    }
}
