//! Elements of any bits, reduced and clipped by norm as the reference says, to the bit.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use wgclip::norm::NormState;
use wgclip::{
    Device, Element, ElementType, NonFinitePolicy, NormKind, NormLimit, bf16, f8_e4m3fn, f8_e5m2, f16,
    reference,
};

/// Bits of x and of its upstream gradient, in rows, and what they are limited to.
#[derive(Debug)]
struct Input<T> {
    x: Vec<T>,
    g: Vec<T>,
    width: usize,
    limit: NormLimit,
}

impl<T: Element> Input<T> {
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let limit = match u.int_in_range(0..=4)? {
            0 => 0.0,
            1 => f64::INFINITY,
            2 => 1.0,
            _ => f64::arbitrary(u)?.abs(),
        };
        let eps = if bool::arbitrary(u)? { 1e-6 } else { 0.0 };
        let limit = NormLimit::new(if limit.is_nan() { 1.0 } else { limit })
            .eps(eps)
            .nonfinite(*u.choose(&NonFinitePolicy::ALL)?);
        // Rows of any width, repeated: long enough for several blocks.
        let (width, repeats) = (u.int_in_range(1..=40)?, *u.choose(&[1, 2, 50, 300])?);
        let bits: Vec<u64> = u.arbitrary_iter()?.take(1024).collect::<Result<_>>()?;
        let element = |bits: &u64| T::from_bits(bits & T::TYPE.layout().mask());
        let whole = bits.len() / 2 / width * width;
        let part = |bits: &[u64]| bits.iter().map(element).collect::<Vec<T>>().repeat(repeats);
        Ok(Self { x: part(&bits[..whole]), g: part(&bits[whole..2 * whole]), width, limit })
    }

    fn check(&self, device: &Device) {
        let Self { x, g, width, limit } = self;
        let shape = [x.len() / width, *width];
        let (tensor, upstream) = (device.tensor(x, shape).unwrap(), device.tensor(g, shape).unwrap());
        same(&tensor.sum(..).unwrap().to_vec().unwrap(), &[reference::sum(x)]);
        for kind in NormKind::ALL {
            let norm = reference::norm(x, kind);
            same(&tensor.norm(kind, ..).unwrap().to_vec().unwrap(), &[norm]);
            let rows: Vec<_> = x.chunks(*width).map(|row| reference::norm(row, kind)).collect();
            same(&tensor.norm(kind, [1]).unwrap().to_vec().unwrap(), &rows);
            let mut state = NormState::wide(kind);
            x.chunks(7).for_each(|part| state.add_slice(part).unwrap());
            same(&[state.norm::<T::Norm>().unwrap()], &[norm]);

            let limit = limit.kind(kind);
            let fails = limit.nonfinite == NonFinitePolicy::Error && !norm.to_f64().is_finite();
            let scaling = reference::scaling(norm, &limit);
            let expected: Vec<_> = x.iter().map(|&x| reference::scale(x, scaling)).collect();
            match tensor.clip_by_norm(limit, ..) {
                Ok(clipped) => same(&clipped.to_vec().unwrap(), &expected),
                Err(error) => assert!(fails, "{error}"),
            }
        }
        let norm = reference::norm(x, NormKind::L2);
        let by = reference::scaling_backward(x, g, norm, limit);
        let expected: Vec<_> = x.iter().zip(g).map(|(&x, &g)| reference::scale_backward(x, g, by)).collect();
        match tensor.clip_by_norm_backward(&upstream, *limit, ..) {
            Ok(gradient) => same(&gradient.to_vec().unwrap(), &expected),
            Err(error) => {
                assert!(limit.nonfinite == NonFinitePolicy::Error && !norm.to_f64().is_finite(), "{error}")
            }
        }
    }
}

fn same<T: Element>(actual: &[T], expected: &[T]) {
    let bits = |elements: &[T]| elements.iter().map(|element| Element::to_bits(*element)).collect::<Vec<_>>();
    assert_eq!(bits(actual), bits(expected));
}

fn check<T: Element>(u: &mut Unstructured<'_>) -> Result<()> {
    Input::<T>::new(u)?.check(&Device::cpu());
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let u = &mut Unstructured::new(data);
    let floats: Vec<_> = ElementType::ALL.iter().copied().filter(|element| element.is_float()).collect();
    // Too few bytes are no input.
    let _ = u.choose(&floats).copied().and_then(|element| match element {
        ElementType::F64 => check::<f64>(u),
        ElementType::F16 => check::<f16>(u),
        ElementType::Bf16 => check::<bf16>(u),
        ElementType::F8E4M3Fn => check::<f8_e4m3fn>(u),
        ElementType::F8E5M2 => check::<f8_e5m2>(u),
        _ => check::<f32>(u),
    });
});
