//! The table on a device of this process, with what else is tried there.

mod builtins;
mod case;
mod exhaustive;
mod mutations;
mod reductions;
mod table;

pub use builtins::{Builtin, builtins};
pub use exhaustive::exhaustive;
pub use mutations::{Mutation, Target, mutations};
pub use reductions::{Reduction, check_reduction, find_reduction_mismatch};
pub use table::{Progress, Row, check, find_mismatch, run};
