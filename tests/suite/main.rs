//! The tests that need devices: one for each operation, type and device, and one for each other function and device.
//!
//! `cargo test --test suite -- clip_backward::f32::llvmpipe` runs what has that in its name; `-- --list` lists all.
//! docs/testing.md has the variables.

mod buffer_pool;
mod conformance;
mod device_loss;
mod devices;
mod dynamic;
mod foreign_code;
mod limits;
mod mutation;
mod near_ties;
mod norms;
mod operands;
mod recording;
mod shaders;
mod stress;
mod tensor_api;
mod user_kernels;
mod wgpu_interop;

use devices::{Settings, Suite};
use libtest_mimic::Arguments;

fn main() {
    let mut arguments = Arguments::from_args();
    // A test waits for its driver about as long as it computes.
    arguments
        .test_threads
        .get_or_insert(2 * std::thread::available_parallelism().map_or(1, |cores| cores.get()));
    let mut settings = Settings::from_env();
    settings.named = arguments.filter.is_some();
    let mut suite = Suite::new(settings);
    for register in [
        conformance::register,
        shaders::register,
        operands::register,
        dynamic::register,
        tensor_api::register,
        buffer_pool::register,
        recording::register,
        limits::register,
        wgpu_interop::register,
        user_kernels::register,
        device_loss::register,
        foreign_code::register,
        stress::register,
        norms::register,
        mutation::register,
        near_ties::register,
    ] {
        register(&mut suite);
    }
    libtest_mimic::run(&arguments, suite.into_trials()).exit();
}
