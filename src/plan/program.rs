//! What is compiled: kernels of operations, and of files of their own.

use crate::ElementType;
use crate::wgsl::{self, Kernel, Specialization};

/// A kernel that is no operation of the list: an entry point of a file, with bindings of its own.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct FixedKernel {
    pub entry: &'static str,
    pub source: &'static str,
    /// The storage buffers in the order in which they are bound: the number of the binding, and whether it is only read.
    pub bindings: &'static [(u32, bool)],
    /// A text of the file, and what this kernel has in its place, for a binding that it does without.
    pub replaced: Option<(&'static str, &'static str)>,
}

/// What is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Program {
    Op(Kernel),
    Fixed(&'static FixedKernel, Specialization),
}

/// Storage buffers of a kernel at the most: every WebGPU device allows as many.
pub(crate) const MAX_BINDINGS: usize = 8;

impl Program {
    pub(crate) fn element(&self) -> ElementType {
        match self {
            Self::Op(kernel) => kernel.specialization.element,
            Self::Fixed(_, specialization) => specialization.element,
        }
    }

    /// Of each storage buffer, the number of the binding and whether it is only read.
    pub(crate) fn bindings(&self) -> Vec<(u32, bool)> {
        match self {
            Self::Op(kernel) => {
                (1..).zip(kernel.bindings()).map(|(index, binding)| (index, binding.read_only)).collect()
            }
            Self::Fixed(kernel, _) => kernel.bindings.to_vec(),
        }
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

    pub(crate) fn source(&self) -> String {
        match self {
            Self::Op(kernel) => kernel.source(),
            Self::Fixed(kernel, specialization) => {
                let text = wgsl::compose(kernel.source, *specialization);
                match kernel.replaced {
                    Some((text_of_file, own)) => text.replace(text_of_file, own),
                    None => text,
                }
            }
        }
    }
}
