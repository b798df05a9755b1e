//! Sequences of operations, on every device to the bit as the reference says.

#![no_main]

mod interpreter;
mod model;
mod program;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wgclip::Device;

use interpreter::Interpreter;
use program::Program;

static DEVICES: LazyLock<Vec<Device>> = LazyLock::new(|| {
    vec![
        Device::cpu(),
        #[cfg(feature = "gpu")]
        Device::gpu().expect("a GPU adapter"),
    ]
});

fuzz_target!(|program: Program| {
    for device in DEVICES.iter() {
        Interpreter::new(device).run(&program);
    }
});
