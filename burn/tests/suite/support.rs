//! Devices, and tensors of bits.

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, DeviceKind, Tensor, TensorData};
use wgclip::{Element, bf16, f16};
use wgclip_burn::ops::Bound;

/// Flex, and a software rasteriser: without one the tests fail.
pub fn devices() -> [Device; 2] {
    [Device::flex(), Device::wgpu(DeviceKind::Cpu)]
}

/// An element type of both crates.
pub trait Float: Element + burn::tensor::Element {
    const DTYPE: DType;
}

impl Float for f32 {
    const DTYPE: DType = DType::F32;
}

impl Float for f64 {
    const DTYPE: DType = DType::F64;
}

impl Float for f16 {
    const DTYPE: DType = DType::F16;
}

impl Float for bf16 {
    const DTYPE: DType = DType::BF16;
}

pub fn tensor<T: Float, const D: usize>(elements: &[T], dims: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(elements.to_vec(), dims), (device, T::DTYPE))
}

pub fn elements<T: Float, const D: usize>(tensor: Tensor<D>) -> Vec<T> {
    tensor.into_data().try_into_vec().unwrap()
}

pub fn bits<T: Float>(elements: &[T]) -> Vec<u64> {
    elements.iter().map(|element| element.to_bits()).collect()
}

/// Numbers around bounds of 0 and 1, every special value, and random bits.
pub fn random<T: Float>(len: usize, rng: &mut fastrand::Rng) -> Vec<T> {
    let special =
        [0.0, -0.0, 1.0, -1.0, 0.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-40, -1e-40, 1e-7];
    let mut one = || match rng.u32(..4) {
        0 => <T as Element>::from_f64(special[rng.usize(..special.len())]),
        1 => <T as Element>::from_f64(3.0 * rng.f64() - 1.0),
        _ => T::from_bits(rng.u64(..) & ((1 << (8 * size_of::<T>() - 1)) * 2 - 1)),
    };
    (0..len).map(|_| one()).collect()
}

/// Numbers that survive a multiplication by 1 on every device.
pub fn normal<T: Float>(len: usize, rng: &mut fastrand::Rng) -> Vec<T> {
    (0..len).map(|_| <T as Element>::from_f64(rng.f64() * 8.0 - 4.0)).collect()
}

/// Sizes around blocks, workgroups and pages.
pub const LENGTHS: [usize; 14] = [1, 2, 3, 4, 5, 8, 9, 17, 63, 65, 257, 1000, 4097, 70_000];

/// A bound as backends take it.
pub fn bound<T: Float>(value: Option<T>) -> Bound<Dispatch> {
    value.map(|value| Element::to_f64(value)).into()
}
