//! The parameters of a dispatch, as a uniform. Each family of kernels has its own layout.

use std::mem::offset_of;

use super::geometry::DispatchRange;
use crate::broadcast::{Broadcast, MAX_AXES, MAX_BROADCAST, Reduction};
use crate::call::Arguments;
use crate::op::{MAX_PARAMS, Operand};
use crate::wgsl::{BLOCK_BYTES, WORKGROUP};
use crate::{Element, ElementType, NanRule, OutsideRule, with_element};

/// The words that begin the parameters of all families.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Head {
    blocks: u32,
    stride: u32,
    elements: u32,
    rank: u32,
}

/// Axes, each of four numbers.
type Axes = [[u32; 4]; MAX_AXES];

/// The parameters of an operation: the twin of `Params` in `shaders/lib/params.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct OpParams {
    pub head: Head,
    pub values: [[u32; 4]; MAX_BROADCAST],
    pub clamped_lo: [u32; 4],
    pub ranges: [u32; 4],
    pub scalars: [u32; MAX_PARAMS],
    pub codes: [i32; 4],
    pub random: [u32; 4],
    pub has_lo: u32,
    pub has_hi: u32,
    pub toward: u32,
    pub nan_zero: u32,
    pub axes: Axes,
    pub strides: [[u32; MAX_BROADCAST]; MAX_AXES],
}

/// The parameters of a reduction: the twin of `Params` in `shaders/lib/reduce_params.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct ReduceParams {
    pub head: Head,
    pub width: u32,
    pub leaves: u32,
    pub parts: u32,
    pub outputs: u32,
    pub first: u32,
    pub row: u32,
    /// The next field is aligned to 16 bytes.
    pub padding: [u32; 2],
    pub axes: Axes,
}

/// The parameters of `shaders/scale.wgsl`: the twin of `Params` in `shaders/lib/scale_params.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct ScaleParams {
    pub head: Head,
    pub max_norm: u32,
    pub eps: u32,
    pub average: u32,
    pub least: u32,
    pub policy: u32,
    pub pieces: u32,
    pub first: u32,
    /// The next field is aligned to 16 bytes.
    pub padding: u32,
    pub axes: Axes,
}

/// The rows of the random numbers and of the first axis of an operation.
const RANDOM: usize = offset_of!(OpParams, random) / size_of::<[u32; 4]>();
const AXES: usize = offset_of!(OpParams, axes) / size_of::<[u32; 4]>();

/// Rows of four words of the largest family.
const ROWS: usize = size_of::<OpParams>() / size_of::<[u32; 4]>();

/// The parameters of a dispatch, as the bytes of a uniform: those of a family, padded with zeros to the size of the largest.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params([[u32; 4]; ROWS]);

macro_rules! families {
    ($($family:ident),+) => {$(
        impl From<$family> for Params {
            fn from(family: $family) -> Self {
                let mut rows = [[0; 4]; ROWS];
                let own: &[[u32; 4]] = bytemuck::cast_slice(std::slice::from_ref(&family));
                rows[..own.len()].copy_from_slice(own);
                Self(rows)
            }
        }
    )+};
}

families!(OpParams, ReduceParams, ScaleParams);

impl OpParams {
    pub(crate) fn new<B>(arguments: &Arguments<'_, B>) -> Self {
        let Arguments { broadcast: inputs, rule, quant, params, .. } = *arguments;
        let (element, layout) = (inputs.element, inputs.element.layout());
        let [lo, hi] = [Operand::Lo, Operand::Hi].map(|bound| inputs.find(bound).1.value());
        // A tensor input is read from its buffer.
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
            codes: [quant.min, quant.max, 0, 0],
            random: [quant.seed as u32, (quant.seed >> 32) as u32, 0, 0],
            has_lo: (!inputs.find(Operand::Lo).1.is_absent()).into(),
            has_hi: (!inputs.find(Operand::Hi).1.is_absent()).into(),
            toward: (rule.outside == OutsideRule::Toward).into(),
            nan_zero: (rule.nan == NanRule::Zero).into(),
            ..Self::default()
        };
        if let Some(broadcast) = &inputs.broadcast {
            set_axes(
                &mut params.head,
                &mut params.axes,
                broadcast.axes().iter().map(|axis| [axis.len, 0, 0]),
            );
            for (strides, axis) in params.strides.iter_mut().zip(broadcast.axes()) {
                *strides = axis.strides.map(|stride| stride as u32);
            }
        }
        params
    }
}

impl ReduceParams {
    /// For a reduction over axes of x: the length, the stride, and whether it is reduced.
    pub(crate) fn new(reduction: &Reduction) -> Self {
        let mut params =
            Self { width: reduction.sums as u32, leaves: reduction.leaves as u32, ..Self::default() };
        let axes = reduction.axes.iter().map(|&(len, stride, reduced)| [len, stride, reduced.into()]);
        set_axes(&mut params.head, &mut params.axes, axes);
        params
    }
}

impl ScaleParams {
    /// For scalings that broadcast to x.
    pub(crate) fn new(broadcast: &Broadcast) -> Self {
        let mut params = Self::default();
        let axes = broadcast.axes().iter().map(|axis| [axis.len, axis.strides[0], 0]);
        set_axes(&mut params.head, &mut params.axes, axes);
        params
    }
}

/// Sets the axes, each of three numbers that fit a `u32`: buffers hold no more elements.
fn set_axes(head: &mut Head, there: &mut Axes, axes: impl Iterator<Item = [usize; 3]>) {
    for (there, [x, y, z]) in there.iter_mut().zip(axes) {
        *there = [x as u32, y as u32, z as u32, 0];
        head.rank += 1;
    }
}

impl Params {
    /// Returns the parameters of one of several dispatches; those of an operation have the first of its blocks.
    pub(crate) fn for_dispatch(
        mut self,
        range: &DispatchRange,
        (is_op, broadcast): (bool, Option<&Broadcast>),
        element: ElementType,
    ) -> Self {
        let head: &mut Head = bytemuck::cast_mut(&mut self.0[0]);
        head.blocks = range.blocks;
        head.elements = (BLOCK_BYTES / element.size() as u64) as u32;
        head.stride = range.workgroups[0] * WORKGROUP;
        // Only an operation has broadcast inputs: each axis gets the coordinate at which the dispatch begins.
        let start = broadcast.map(|broadcast| broadcast.coordinates(range.offset / element.size() as u64));
        for (axis, at) in start.into_iter().flatten().enumerate() {
            self.0[AXES + axis][1] = at as u32;
        }
        if is_op {
            self.0[RANDOM][2] = (range.offset / BLOCK_BYTES) as u32;
        }
        self
    }
}

/// Whether both bounds are values, the lower one above the upper one.
fn is_crossed(element: ElementType, lo: Option<u64>, hi: Option<u64>) -> bool {
    let Some((lo, hi)) = lo.zip(hi) else { return false };
    with_element!(element, T => <T as Element>::from_bits(hi) < <T as Element>::from_bits(lo))
}

/// A block filled with one element.
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

    /// Compares the shaders' structs, field by field.
    #[test]
    fn the_layouts_are_the_shaders() {
        macro_rules! fields {
            ($family:ident: $($field:ident),+) => {
                [("blocks", 0), ("stride", 4), ("elements", 8), ("rank", 12)]
                    .into_iter()
                    .chain([$((stringify!($field), offset_of!($family, $field))),+])
                    .collect::<Vec<_>>()
            };
        }
        let files = [
            (
                include_str!("../../shaders/lib/params.wgsl"),
                size_of::<OpParams>(),
                fields!(OpParams: values, clamped_lo, ranges, scalars, codes, random, has_lo, has_hi, toward, nan_zero, axes, strides),
            ),
            (
                include_str!("../../shaders/lib/reduce_params.wgsl"),
                size_of::<ReduceParams>(),
                fields!(ReduceParams: width, leaves, parts, outputs, first, row, axes),
            ),
            (
                include_str!("../../shaders/lib/scale_params.wgsl"),
                size_of::<ScaleParams>(),
                fields!(ScaleParams: max_norm, eps, average, least, policy, pieces, first, axes),
            ),
        ];
        for (file, size, ours) in files {
            let module = naga::front::wgsl::parse_str(file).unwrap();
            let (_, params) =
                module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params")).unwrap();
            let naga::TypeInner::Struct { members, span } = &params.inner else { panic!("{params:?}") };
            let theirs: Vec<_> = members
                .iter()
                .map(|member| (member.name.as_deref().unwrap(), member.offset as usize))
                .collect();
            assert_eq!(ours, theirs);
            assert_eq!(*span as usize, size);
            assert!(size <= size_of::<Params>());
        }
    }

    #[test]
    fn a_block_is_full_of_its_element() {
        assert_eq!(splat(ElementType::U8, 0x81), [0x8181_8181; 4]);
        assert_eq!(splat(ElementType::I16, 0x8001), [0x8001_8001; 4]);
        assert_eq!(splat(ElementType::F32, 0x8000_0001), [0x8000_0001; 4]);
        assert_eq!(splat(ElementType::F64, 0x8000_0000_0000_0001), [1, 0x8000_0000, 1, 0x8000_0000]);
    }
}
