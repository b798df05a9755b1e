//! Sequences of operations, on every device to the bit as the reference says.

#![no_main]

mod model;
mod program;
mod world;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wgclip::Device;

use program::Program;
use world::World;

static DEVICES: LazyLock<Vec<Device>> = LazyLock::new(|| {
    vec![
        Device::cpu(),
        #[cfg(feature = "gpu")]
        Device::gpu(None).expect("a GPU adapter"),
    ]
});

fuzz_target!(|program: Program| {
    for device in DEVICES.iter() {
        World::new(device).run(&program);
    }
});
