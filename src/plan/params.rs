//! The parameters of a dispatch, as a uniform: the twin of `Params` in `shaders/lib/params.wgsl`.

use super::geometry::DispatchRange;
use crate::broadcast::{Broadcast, BroadcastInputs, MAX_AXES, MAX_BROADCAST, Reduction};
use crate::op::{MAX_PARAMS, Operand};
use crate::wgsl::{BLOCK_BYTES, WORKGROUP};
use crate::{BackwardRule, Element, ElementType, NanRule, OutsideRule, with_element};

/// The parameters. A test compares their layout with the shader's.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    pub(crate) values: [[u32; 4]; MAX_BROADCAST],
    pub(crate) clamped_lo: [u32; 4],
    pub(crate) ranges: [u32; 4],
    pub(crate) scalars: [u32; MAX_PARAMS],
    pub(crate) has_lo: u32,
    pub(crate) has_hi: u32,
    pub(crate) blocks: u32,
    pub(crate) stride: u32,
    pub(crate) toward: u32,
    pub(crate) nan_zero: u32,
    pub(crate) rank: u32,
    pub(crate) elements: u32,
    pub(crate) width: u32,
    pub(crate) leaves: u32,
    pub(crate) parts: u32,
    pub(crate) outputs: u32,
    pub(crate) first: u32,
    pub(crate) row: u32,
    /// What follows is aligned to 16 bytes.
    pub(crate) padding: [u32; 2],
    pub(crate) limiter: [u32; 4],
    pub(crate) axes: [[u32; 4]; MAX_AXES],
    pub(crate) strides: [[u32; MAX_BROADCAST]; MAX_AXES],
}

impl Params {
    /// Of an operation.
    pub(crate) fn new<B>(inputs: &BroadcastInputs<B>, rule: BackwardRule, params: &[f64]) -> Self {
        let (element, layout) = (inputs.element, inputs.element.layout());
        let [lo, hi] = [Operand::Lo, Operand::Hi].map(|bound| inputs.find(bound).1.value());
        // An input that is a tensor is read from there.
        let block = |bits: Option<u64>, absent| splat(element, bits.unwrap_or(absent));
        let absent = |index: usize| match inputs.operands.get(index) {
            Some(Operand::Lo) | None => layout.total_order_min(),
            Some(Operand::Hi) => layout.total_order_max(),
            Some(_) => 0,
        };
        let [below, above] = layout.ranges_outside(lo, hi);
        let biased = |(start, len): (u32, u32)| [start ^ 1 << 31, len ^ 1 << 31];
        let clamped = if is_crossed(element, lo, hi) { hi } else { lo };
        let mut params = Self {
            values: std::array::from_fn(|index| block(inputs.inputs[index].value(), absent(index))),
            clamped_lo: block(clamped, layout.total_order_min()),
            ranges: bytemuck::cast([biased(below), biased(above)]),
            // The shaders multiply in f32.
            scalars: std::array::from_fn(|n| params.get(n).map_or(0, |&param| (param as f32).to_bits())),
            has_lo: (!inputs.find(Operand::Lo).1.is_absent()).into(),
            has_hi: (!inputs.find(Operand::Hi).1.is_absent()).into(),
            toward: (rule.outside == OutsideRule::Toward).into(),
            nan_zero: (rule.nan == NanRule::Zero).into(),
            ..Self::default()
        };
        if let Some(broadcast) = &inputs.broadcast {
            params.set_axes(broadcast.axes().iter().map(|axis| [axis.len, 0, 0, 0]));
            for (strides, axis) in params.strides.iter_mut().zip(broadcast.axes()) {
                *strides = axis.strides.map(|stride| stride as u32);
            }
        }
        params
    }

    /// Of a reduction over axes of x: the length, the stride, and whether it is reduced.
    pub(crate) fn of_reduction(reduction: &Reduction) -> Self {
        let mut params =
            Self { width: reduction.sums as u32, leaves: reduction.leaves as u32, ..Self::default() };
        params
            .set_axes(reduction.axes.iter().map(|&(len, stride, reduced)| [len, stride, reduced.into(), 0]));
        params
    }

    /// Of scalings that broadcast to x.
    pub(crate) fn of_scalings(broadcast: &Broadcast) -> Self {
        let mut params = Self::default();
        params.set_axes(broadcast.axes().iter().map(|axis| [axis.len, axis.strides[0], 0, 0]));
        params
    }

    /// Of a kernel that takes four words.
    pub(crate) fn of_scalars(scalars: [u32; 4]) -> Self {
        Self { scalars, ..Self::default() }
    }

    /// Sets the axes, each of four numbers that fit a `u32`: buffers hold no more elements.
    fn set_axes(&mut self, axes: impl Iterator<Item = [usize; 4]>) {
        self.rank = 0;
        for (there, axis) in self.axes.iter_mut().zip(axes) {
            *there = axis.map(|n| n as u32);
            self.rank += 1;
        }
    }

    /// The same, for one dispatch of several.
    pub(crate) fn for_dispatch(
        mut self,
        range: &DispatchRange,
        broadcast: Option<&Broadcast>,
        element: ElementType,
    ) -> Self {
        self.blocks = range.blocks;
        self.elements = (BLOCK_BYTES / element.size() as u64) as u32;
        self.stride = range.workgroups[0] * WORKGROUP;
        if let Some(broadcast) = broadcast {
            let start = broadcast.coordinates(range.offset / element.size() as u64);
            for (axis, at) in self.axes.iter_mut().zip(start) {
                axis[1] = at as u32;
            }
        }
        self
    }
}

/// Whether both bounds are values, the lower one above the upper one.
fn is_crossed(element: ElementType, lo: Option<u64>, hi: Option<u64>) -> bool {
    let Some((lo, hi)) = lo.zip(hi) else { return false };
    with_element!(element, T => <T as Element>::from_bits(hi) < <T as Element>::from_bits(lo))
}

/// A block full of one element.
fn splat(element: ElementType, bits: u64) -> [u32; 4] {
    let bits = u128::from(bits);
    let every = |ones: u128| bits * (u128::MAX / ones);
    bytemuck::cast(
        match element.size() {
            1 => every(u8::MAX.into()),
            2 => every(u16::MAX.into()),
            4 => every(u32::MAX.into()),
            _ => every(u64::MAX.into()),
        }
        .to_le_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;
    use crate::op::first_outputs;
    use crate::wgsl::{Kernel, Specialization};

    /// The shader's struct, field by field.
    #[test]
    fn the_layout_is_the_shaders() {
        use std::mem::offset_of;
        macro_rules! fields {
            ($($field:ident),+) => { vec![$((stringify!($field).to_owned(), offset_of!(Params, $field))),+] };
        }
        let ours = fields!(
            values, clamped_lo, ranges, scalars, has_lo, has_hi, blocks, stride, toward, nan_zero, rank,
            elements, width, leaves, parts, outputs, first, row, limiter, axes, strides
        );
        let of_f32 = Specialization::of(ElementType::F32);
        let source = Kernel::new(Op::Clip, false, first_outputs(1), false, of_f32).source();
        let module = naga::front::wgsl::parse_str(&source).unwrap();
        let (_, params) = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params")).unwrap();
        let naga::TypeInner::Struct { members, span } = &params.inner else { panic!("{params:?}") };
        let theirs: Vec<_> =
            members.iter().map(|member| (member.name.clone().unwrap(), member.offset as usize)).collect();
        assert_eq!(ours, theirs);
        assert_eq!(*span as usize, size_of::<Params>());
    }

    #[test]
    fn a_block_is_full_of_its_element() {
        assert_eq!(splat(ElementType::U8, 0x81), [0x8181_8181; 4]);
        assert_eq!(splat(ElementType::I16, 0x8001), [0x8001_8001; 4]);
        assert_eq!(splat(ElementType::F32, 0x8000_0001), [0x8000_0001; 4]);
        assert_eq!(splat(ElementType::F64, 0x8000_0000_0000_0001), [1, 0x8000_0000, 1, 0x8000_0000]);
    }
}
