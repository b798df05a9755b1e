//! One comparison for every device and operation: what a device returns against what the reference says, at
//! zero tolerance.

use std::fmt;

use wgclip::{Bounds, Device, Element, Gradient, Result, reference};

/// An operation of the contract. A new one is a variant here, and an arm in each of the two functions below.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    Clip,
    ClipInPlace,
    ClipGrad(Gradient),
}

/// What the device is compared with: the reference, or a wrong one to see that the comparison can fail.
#[derive(Clone, Copy)]
pub struct Oracle<T> {
    pub clip: fn(T, Option<T>, Option<T>) -> T,
    pub clip_grad: fn(T, T, Option<T>, Option<T>, Gradient) -> T,
}

impl<T: Element> Oracle<T> {
    pub const REFERENCE: Self = Self { clip: reference::clip, clip_grad: reference::clip_grad };

    fn expected(&self, op: Op, x: T, g: T, bounds: &Bounds<T>) -> T {
        match op {
            Op::Clip | Op::ClipInPlace => (self.clip)(x, bounds.lo(), bounds.hi()),
            Op::ClipGrad(rule) => (self.clip_grad)(x, g, bounds.lo(), bounds.hi(), rule),
        }
    }
}

fn actual<T: Element>(device: &Device, op: Op, x: &[T], g: &[T], bounds: &Bounds<T>) -> Result<Vec<T>> {
    let shape = [x.len()];
    let mut tensor = device.tensor(x, shape)?;
    let upstream = device.tensor(g, shape)?;
    // The pool hands this buffer to the result, so an element that is not written shows.
    drop(device.tensor(&vec![T::from_bits(0xdead_beef_dead_beef); x.len()], shape)?);
    match op {
        Op::Clip => tensor.clip(bounds)?.to_vec(),
        Op::ClipInPlace => {
            tensor.clip_in_place(bounds)?;
            tensor.to_vec()
        }
        Op::ClipGrad(rule) => tensor.clip_grad(&upstream, bounds, rule)?.to_vec(),
    }
}

/// The first element that differs.
#[derive(Debug)]
pub struct Mismatch {
    device: String,
    op: String,
    bounds: String,
    len: usize,
    index: usize,
    inputs: [u64; 2],
    expected: u64,
    actual: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, g] = self.inputs;
        write!(
            f,
            "{} on {}, {}, element {} of {}: x {x:#x}, g {g:#x}: expected {:#x}, got {:#x}",
            self.op, self.device, self.bounds, self.index, self.len, self.expected, self.actual
        )
    }
}

/// Runs an operation on a device and compares each element. Returns how many there were.
pub fn compare<T: Element>(
    device: &Device,
    oracle: &Oracle<T>,
    op: Op,
    x: &[T],
    g: &[T],
    bounds: &Bounds<T>,
) -> Result<usize, Box<Mismatch>> {
    let result = actual(device, op, x, g, bounds);
    let result = result.unwrap_or_else(|error| panic!("{op:?} on {device:?}: {error}"));
    assert_eq!(result.len(), x.len(), "{op:?} on {device:?}");
    for (index, ((&x_i, &g_i), actual)) in x.iter().zip(g).zip(&result).enumerate() {
        let expected = oracle.expected(op, x_i, g_i, bounds);
        if expected.to_bits() != actual.to_bits() {
            return Err(Box::new(Mismatch {
                device: device.info().to_string(),
                op: format!("{op:?} of {}", T::TYPE),
                bounds: format!("{bounds:?}"),
                len: x.len(),
                index,
                inputs: [x_i.to_bits(), g_i.to_bits()],
                expected: expected.to_bits(),
                actual: actual.to_bits(),
            }));
        }
    }
    Ok(x.len())
}
