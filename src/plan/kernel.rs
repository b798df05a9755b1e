//! The text of a kernel, for engines that compile it themselves.

use std::fmt::Write;

use super::program::Program;

/// A kernel: the same for all steps that are compiled to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel(pub(super) Program);

/// Numbers from here on are of bindings that a kernel does not use.
const OTHERS: usize = 100;

/// Where a kernel's parameters are bound, as a uniform in group 0. The slices of a step have the numbers that are left, in their
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamsBinding {
    /// At 0.
    First,
    /// After all slices.
    Last,
}

impl Kernel {
    /// Its text in WGSL. The entry point is `main`; every storage buffer is `read_write`, so that slices may be parts of one buffer.
    pub fn source(&self, params: ParamsBinding) -> String {
        let bindings = self.0.bindings();
        let first = usize::from(params == ParamsBinding::First);
        let of_params = if params == ParamsBinding::First { 0 } else { bindings.len() };
        let number = |old: usize| match bindings.iter().position(|&(number, _)| number as usize == old) {
            Some(place) => first + place,
            None if old == 0 => of_params,
            // Of other entry points of the file.
            None => OTHERS + old,
        };
        let mut text = String::new();
        for line in self.0.source().lines() {
            let declared = line.strip_prefix("@group(0) @binding(").and_then(|rest| rest.split_once(") "));
            let _ = match declared.and_then(|(old, rest)| Some((old.parse().ok()?, rest))) {
                Some((old, rest)) => {
                    let rest = rest.replace("var<storage, read>", "var<storage, read_write>");
                    writeln!(text, "@group(0) @binding({}) {rest}", number(old))
                }
                None => writeln!(text, "{line}"),
            };
        }
        text.replace(&format!("fn {}(", self.0.entry()), "fn main(")
    }

    /// A name, for labels.
    pub fn name(&self) -> String {
        self.0.name()
    }
}
