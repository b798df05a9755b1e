//! What is to be dispatched: a kernel, what it is told, its operands, and the pieces of the work.

use super::dispatch::{BLOCK, Grain, Limits, Params, Piece, Variant, WORKGROUP, pieces, whole};
use super::pipeline::Kernel;
use super::pool::Slab;
use crate::bounds::{Bound, Interval};
use crate::broadcast::{Broadcast, Side};
use crate::{DeviceInfo, Element, ElementType, Error, Gradient, Result};

/// A part of a buffer that a kernel works on.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    pub buffer: &'a wgpu::Buffer,
    /// The pool's, if it is of one.
    pub slab: Option<&'a Slab>,
    start: u64,
    /// Whole blocks.
    bytes: u64,
    pub span: Span,
}

/// Which part of an operand belongs to a piece of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Its blocks.
    Blocks,
    /// The words of a mask, each of so many blocks.
    Words(u32),
    /// All of it.
    Whole,
}

impl<'a> Operand<'a> {
    pub fn new(buffer: &'a wgpu::Buffer, slab: Option<&'a Slab>, start: u64, bytes: u64) -> Self {
        Self { buffer, slab, start, bytes: bytes.next_multiple_of(BLOCK), span: Span::Blocks }
    }

    /// Of a buffer of the caller's. What is missing comes as the error.
    pub fn of_caller(
        buffer: &'a wgpu::Buffer,
        start: u64,
        bytes: u64,
        limits: Limits,
    ) -> Result<Self, String> {
        let alignment = limits.offset_alignment;
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            return Err("create it with BufferUsages::STORAGE".into());
        }
        if !start.is_multiple_of(alignment) {
            return Err(format!("begin at a multiple of {alignment}"));
        }
        let end = bytes.checked_next_multiple_of(BLOCK).and_then(|bytes| start.checked_add(bytes));
        if end.is_none_or(|end| end > buffer.size()) {
            return Err(format!(
                "let the buffer reach to the end of the tensor's last block of {BLOCK} bytes"
            ));
        }
        Ok(Self::new(buffer, None, start, bytes))
    }

    /// The same with another span.
    pub fn spanning(self, span: Span) -> Self {
        Self { span, ..self }
    }

    /// Its bytes: whole blocks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The offset and the bytes of a piece's part.
    pub fn range(&self, piece: &Piece) -> (u64, u64) {
        let (offset, bytes) = match self.span {
            Span::Blocks => (piece.offset, piece.bytes()),
            Span::Words(each) => {
                // A workgroup's words, of the blocks that belong together.
                let unit = u64::from(each * WORKGROUP);
                let words = 4 * u64::from(WORKGROUP);
                (piece.offset / BLOCK / unit * words, u64::from(piece.blocks).div_ceil(unit) * words)
            }
            Span::Whole => (0, self.bytes),
        };
        (self.start + offset, bytes)
    }
}

/// A kernel over its operands, which are in the order of its bindings.
#[derive(Debug)]
pub struct Plan<'a> {
    pub kernel: &'static Kernel,
    pub element: ElementType,
    pub variant: Variant,
    pub operands: Vec<Operand<'a>>,
    params: Params,
    broadcast: Option<&'a Broadcast>,
    pieces: Vec<Piece>,
}

impl<'a> Plan<'a> {
    /// A kernel over the blocks of its operands, the first of which is as long as the work.
    pub fn blocks<T: Element>(
        kernel: &'static Kernel,
        grain: Grain,
        params: Params,
        bytes: u64,
        operands: &[Operand<'a>],
        limits: Limits,
    ) -> Self {
        Self {
            kernel,
            element: T::TYPE,
            variant: Variant::default(),
            operands: operands.to_vec(),
            params,
            broadcast: None,
            pieces: pieces(bytes, grain, limits).collect(),
        }
    }

    /// The same for a kernel with bounds: `kernels` are the one for values and the one for tensors; one without
    /// a backward pass takes any rule, the default for the sake of one pipeline.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for bounds that broadcast and are too large.
    pub fn bounded<T: Element, S: Copy + Into<Operand<'a>>>(
        kernels: &'static [Kernel; 2],
        grain: Grain,
        rule: Gradient,
        bounds: &'a Interval<T, S>,
        operands: &[Operand<'a>],
        (limits, info): (Limits, &DeviceInfo),
    ) -> Result<Self> {
        let bytes = operands.first().map_or(0, Operand::bytes);
        let params = Params::new(bounds, rule);
        let variant = Variant::new(bounds, rule.ties);
        // A binding wants a buffer, also for a bound that is no tensor: the other one.
        let (lo, hi) = (bounds.operand(Side::Lo), bounds.operand(Side::Hi));
        let tensors = bounds.broadcast.as_ref().zip(lo.or(hi)).zip(hi.or(lo));
        let Some(((broadcast, lo), hi)) = tensors else {
            let plan = Self::blocks::<T>(&kernels[0], grain, params, bytes, operands, limits);
            return Ok(Self { variant, ..plan });
        };
        // The kernel counts along an axis in 32 bits.
        if broadcast.axes().iter().any(|axis| u32::try_from(axis.len).is_err()) {
            return Err(Error::Unsupported {
                what: "a tensor of 2^32 elements or more between bounds that broadcast".into(),
                device: info.to_string(),
                instead: "split it, or give bounds of its own shape".into(),
            });
        }
        for bound in [lo, hi] {
            fits(bound, limits, info, "a bound that broadcasts", "give it the tensor's own shape")?;
        }
        let operands = [&[lo, hi], operands].concat();
        let plan = Self::blocks::<T>(&kernels[1], grain, params, bytes, &operands, limits);
        Ok(Self { variant, broadcast: Some(broadcast), ..plan })
    }

    /// A kernel that works on whole buffers with so many invocations.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if these are too large.
    pub fn whole<T: Element>(
        kernel: &'static Kernel,
        params: Params,
        invocations: u64,
        operands: &[Operand<'a>],
        (limits, info): (Limits, &DeviceInfo),
    ) -> Result<Self> {
        for &operand in operands {
            fits(operand, limits, info, "the gradient of a bound", "split the tensor and add the gradients")?;
        }
        let piece = whole(invocations, limits).ok_or_else(|| Error::Unsupported {
            what: format!("the gradient of a bound in {invocations} sums at once"),
            device: info.to_string(),
            instead: "split the tensor and add the gradients".into(),
        })?;
        let plan = Self::blocks::<T>(kernel, Grain::Block, params, 0, operands, limits);
        Ok(Self { pieces: vec![piece], ..plan })
    }

    /// The pieces, and what the kernel is told of each.
    pub fn pieces(&self) -> impl Iterator<Item = (&Piece, Params)> {
        self.pieces.iter().map(|piece| (piece, self.params.for_piece(piece, self.broadcast, self.element)))
    }

    /// Refuses what wgpu refuses: a kernel that writes a buffer which it also binds elsewhere.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn check_overlap(&self, info: &DeviceInfo) -> Result<()> {
        let both = |i: usize, written: &Operand<'_>| {
            // The pool never gives one buffer twice.
            let mut others = self.operands.iter().enumerate().filter(|(j, _)| *j != i);
            written.slab.is_none() && others.any(|(_, other)| other.buffer == written.buffer)
        };
        let mut operands = self.kernel.bindings.iter().zip(&self.operands).enumerate();
        if operands.any(|(i, (binding, operand))| !binding.read_only && both(i, operand)) {
            return Err(Error::Unsupported {
                what: "reading and writing one buffer in one operation, even apart,".into(),
                device: info.to_string(),
                instead: "give each tensor a buffer of its own".into(),
            });
        }
        Ok(())
    }
}

/// Refuses a buffer that has to be bound whole and is too large for that.
fn fits(operand: Operand<'_>, limits: Limits, info: &DeviceInfo, what: &str, instead: &str) -> Result<()> {
    let (bytes, most) = (operand.bytes(), limits.max_binding);
    if operand.span != Span::Whole || bytes <= most {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("{what} of {bytes} bytes, more than the {most} of a binding,"),
        device: info.to_string(),
        instead: instead.into(),
    })
}

impl<T: Element, S> Interval<T, S> {
    /// A tensor of bounds, bound block by block like x or as a whole.
    fn operand<'a>(&self, side: Side) -> Option<Operand<'a>>
    where
        S: Copy + Into<Operand<'a>>,
    {
        let Bound::Tensor(buffer) = *self.side(side) else { return None };
        let same = self.broadcast.as_ref()?.is_same(side);
        Some(Operand { span: if same { Span::Blocks } else { Span::Whole }, ..buffer.into() })
    }
}
