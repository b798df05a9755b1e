//! Clips with a name.
