//! What JavaScript calls. No pointer comes in: buffers have handles, and JavaScript writes into them between calls.

use std::sync::{Mutex, MutexGuard, PoisonError};

use wgclip::{Error, Result};

use crate::request::{Request, malformed};
use crate::state::State;

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn with_state<R>(work: impl FnOnce(&mut State) -> R) -> R {
    let mut state: MutexGuard<'_, Option<State>> = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    work(state.get_or_insert_default())
}

type Function = fn(&mut State, &mut Request) -> Result<()>;

/// What JavaScript calls, by name: the first one tells the names, in the order of the numbers that it calls by.
const FUNCTIONS: &[(&str, Function)] = &[
    ("names", |state, _| crate::names::names(state, FUNCTIONS.iter().map(|(name, _)| *name))),
    ("checkBounds", |_, request| crate::request::check_bounds(request)),
    #[cfg(feature = "plan")]
    ("source", crate::plan::source),
    #[cfg(feature = "plan")]
    ("planOp", crate::plan::op),
    #[cfg(feature = "plan")]
    ("planGlobalNorm", crate::plan::global_norm),
    #[cfg(feature = "plan")]
    ("planSoftmax", crate::plan::softmax),
    #[cfg(feature = "plan")]
    ("planMask", crate::plan::mask),
    #[cfg(feature = "cpu")]
    ("cpuOp", crate::cpu::op),
    #[cfg(feature = "cpu")]
    ("cpuGlobalNorm", crate::cpu::global_norm),
    #[cfg(feature = "cpu")]
    ("cpuSoftmax", crate::cpu::softmax),
    #[cfg(feature = "check")]
    ("checkStart", crate::check::start),
    #[cfg(feature = "check")]
    ("checkNext", |state, _| crate::check::next(state)),
    #[cfg(feature = "check")]
    ("checkCompare", crate::check::compare),
];

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
        let run = FUNCTIONS.get(function).map_or(Err(malformed()), |(_, run)| run(state, &mut request));
        run.map_or_else(
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
