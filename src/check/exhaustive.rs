//! Every bit pattern of a type.

use crate::{Device, Result};

/// TODO
pub fn exhaustive(_: &Device) -> Result<()> {
    Ok(())
}
