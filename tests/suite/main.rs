//! The tests that need devices: every case runs on the CPU path and on every adapter that wgpu finds.

mod conformance;
mod devices;
mod faults;
mod operands;
mod recording;
mod tensors;
