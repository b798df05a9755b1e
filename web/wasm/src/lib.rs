//! What a web page takes from wgclip: plans and kernels for its own GPU device, and the CPU path. TypeScript around it owns
//! devices, buffers and promises.
//!
//! A call is a function's number and a request of f64 words (numbers as JavaScript has them); its response is such words, or a code
//! and a text of what is wrong. Operands of the CPU path are buffers in the module's memory, which have handles. Features say which functions a
//! module has.

// Features share what each needs a part of.
#![cfg_attr(not(all(feature = "plan", feature = "cpu")), allow(dead_code))]

mod abi;
#[cfg(feature = "check")]
mod check;
#[cfg(feature = "cpu")]
mod cpu;
mod memory;
mod names;
#[cfg(feature = "plan")]
mod plan;
mod request;
mod state;
