//! The tests that need devices: every case runs on the CPU path and on every adapter that wgpu finds.

mod breakage;
mod buffers;
mod conformance;
mod devices;
mod faults;
mod limits;
mod operands;
mod own_device;
mod recording;
mod tensors;
