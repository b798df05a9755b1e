//! Runs the table on a device of this process, and the other on-device tests.

mod builtins;
mod case;
mod codes;
mod exhaustive;
mod mutations;
mod reductions;
mod softmax;
mod table;

pub use builtins::{Builtin, builtins};
pub use exhaustive::exhaustive;
pub use mutations::{Mutation, mutations};
pub use reductions::find_mismatch_of_slices;
pub use table::{Progress, Row, check, find_mismatch, run};
