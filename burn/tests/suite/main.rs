//! The crate on Burn's CPU backend and on a software rasteriser, against wgclip's reference.

mod activations;
mod clip;
mod composed;
mod modules;
mod norm;
mod quantize;
mod run;
mod support;
