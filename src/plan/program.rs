//! Programs to compile: kernels of operations, and kernels with their own files.

use std::borrow::Cow;

use crate::ElementType;
use crate::wgsl::{self, Interface, Kernel, Specialization};

/// A kernel that is not an operation of the list: an entry point of a file.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct FixedKernel {
    pub entry: &'static str,
    pub source: &'static str,
    /// The storage buffers in binding order: the name, and whether it is read-only.
    pub bindings: &'static [(&'static str, bool)],
    /// Modules that it imports, and those linked instead.
    pub substitutes: &'static [(&'static str, &'static str)],
}

/// A program to compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Program {
    Op(Kernel),
    Fixed(&'static FixedKernel, Specialization),
}

/// Maximum storage buffers of a kernel: every WebGPU device allows as many.
pub(crate) const MAX_BINDINGS: usize = 8;

impl Program {
    pub(crate) fn element(&self) -> ElementType {
        match self {
            Self::Op(kernel) => kernel.specialization.element,
            Self::Fixed(_, specialization) => specialization.element,
        }
    }

    /// For each storage buffer, its name and whether it is read-only.
    fn buffers(&self) -> Vec<(Cow<'static, str>, bool)> {
        match self {
            Self::Op(kernel) => {
                let name = |name| Cow::Owned(format!("{name}_blocks"));
                kernel.bindings().into_iter().map(|binding| (name(binding.name), binding.read_only)).collect()
            }
            Self::Fixed(kernel, _) => {
                kernel.bindings.iter().map(|&(name, read_only)| (Cow::Borrowed(name), read_only)).collect()
            }
        }
    }

    /// For each storage buffer, its binding number and whether it is read-only. The parameters are at 0.
    #[cfg(feature = "gpu")]
    pub(crate) fn bindings(&self) -> Vec<(u32, bool)> {
        (1..).zip(self.buffers()).map(|(number, (_, read_only))| (number, read_only)).collect()
    }

    /// A name, for labels.
    pub(crate) fn name(&self) -> String {
        let name = match self {
            Self::Op(kernel) => kernel.op.variant_name(kernel.in_place),
            Self::Fixed(kernel, _) => kernel.entry.to_owned(),
        };
        format!("wgclip {name} {}", self.element())
    }

    pub(crate) fn entry(&self) -> &'static str {
        match self {
            Self::Op(_) => "main",
            Self::Fixed(kernel, _) => kernel.entry,
        }
    }

    /// The text, with the parameters at 0 and the buffers after them.
    #[cfg(feature = "gpu")]
    pub(crate) fn source(&self) -> String {
        let buffers = self.buffers().into_iter().zip(1..);
        let buffers = buffers.map(|((name, read_only), number)| (name, number, read_only)).collect();
        self.compose(Interface { buffers, ..Interface::default() })
    }

    /// The text for engines that bind the parameters first or last, and buffers that may be parts of one. The entry point is `main`.
    pub(crate) fn source_of_parts(&self, params_first: bool) -> String {
        let buffers = self.buffers();
        let params = if params_first { 0 } else { buffers.len() as u32 };
        let numbers = u32::from(params_first)..;
        let buffers = buffers.into_iter().zip(numbers).map(|((name, _), number)| (name, number, false));
        self.compose(Interface {
            params,
            buffers: buffers.collect(),
            main: Some(self.entry()),
            substitutes: &[],
        })
    }

    fn compose(&self, interface: Interface<'_>) -> String {
        match self {
            Self::Op(kernel) => kernel.source(&interface),
            Self::Fixed(kernel, specialization) => {
                let interface = Interface { substitutes: kernel.substitutes, ..interface };
                wgsl::compose(kernel.source, *specialization, &interface)
            }
        }
    }
}
