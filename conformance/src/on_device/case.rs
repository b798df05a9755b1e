//! Cases on a device.

use rayon::prelude::*;

use wgclip::op::Operand;
use wgclip::{
    Bound, Bounds, Device, Element, ElementType, Op, Result, Tensor, reference, testing, with_element,
};

use crate::case::{Case, Host, Mismatch, Oracle, Results, Tally, Variant};

fn on_device<T: Element>(bound: &Bound<T, Host<T>>, device: &Device) -> Result<Bound<T>> {
    match bound {
        Bound::Absent => Ok(Bound::Absent),
        Bound::Value(value) => Ok(Bound::Value(*value)),
        Bound::Tensor(host) => device.tensor(&host.data, &host.dims[..]).map(Bound::Tensor),
    }
}

impl<T: Element> Case<T> {
    /// Runs an operation on a device and compares each element of each of its results.
    ///
    /// # Errors
    /// What the device returns.
    pub(crate) fn compare(&self, device: &Device, oracle: &Oracle<T>, variant: Variant) -> Result<Tally> {
        if variant.op.info().converts {
            return self.compare_converted(device);
        }
        let expected = self.run_reference(oracle, variant);
        let actual = self.run_on_device(device, variant)?;
        Ok(self.compare_results(&device.info().to_string(), variant, &expected, &actual))
    }

    /// The same of an operation into other types of float.
    fn compare_converted(&self, device: &Device) -> Result<Tally> {
        let mut tally = Tally::default();
        let floats: Vec<_> = ElementType::ALL.iter().filter(|to| to.is_float()).collect();
        // Any one: upstream gradients are random.
        let any = self.g.iter().map(|g| g.to_bits()).fold(0, u64::wrapping_add) as usize % floats.len();
        for (_, &&to) in floats.iter().enumerate().filter(|&(n, _)| self.all_types || n == any) {
            with_element!(to, U => {
                let bounds = Bounds::new(on_device(&self.lo, device)?, on_device(&self.hi, device)?)?;
                let x = device.tensor(&self.x, &self.dims[..])?;
                // The pool hands these buffers to the results, so an element that is not written shows.
                let poison = vec![<U as Element>::from_bits(0xdead_beef_dead_beef); self.x.len()];
                drop([device.tensor(&poison, &self.dims[..])?, device.tensor(&poison, &self.dims[..])?]);
                let actual = x.clip_to::<U>(&bounds)?.into_vec()?;
                let expected = |i: usize| {
                    reference::clip_to::<T, U>(self.x[i], self.at(&self.lo, i), self.at(&self.hi, i))
                };
                let differs = |&i: &usize| Element::to_bits(expected(i)) != Element::to_bits(actual[i]);
                let all = 0..self.x.len();
                let found = all.clone().into_par_iter().with_min_len(1 << 14).filter(differs).count();
                let first = if found > 0 { all.clone().find(differs) } else { None };
                let first = first.map(|index| Mismatch {
                    device: device.info().to_string(),
                    element: T::TYPE,
                    op: format!("clip_to {to}"),
                    operands: self.describe(),
                    index,
                    inputs: Some([self.x[index].to_bits(), 0]),
                    expected: Element::to_bits(expected(index)),
                    actual: Element::to_bits(actual[index]),
                });
                tally.add(Tally { cases: all.len() as u64, mismatches: found as u64, first });
            });
        }
        Ok(tally)
    }

    fn run_on_device(&self, device: &Device, Variant { op, in_place, rule }: Variant) -> Result<Results<T>> {
        let tensor = |data: &[T]| device.tensor(data, &self.dims[..]);
        let (mut x, mut g) = (tensor(&self.x)?, tensor(&self.g)?);
        let bounds = Bounds::new(on_device(&self.lo, device)?, on_device(&self.hi, device)?)?;
        // The pool hands these buffers to the results, so an element that is not written shows.
        let poison = vec![T::from_bits(0xdead_beef_dead_beef); self.x.len()];
        drop([tensor(&poison)?, tensor(&poison)?, tensor(&poison)?]);
        let read = |tensor: Tensor<T>| tensor.into_vec();

        // What makes or reads a mask is seen by what the mask passes.
        let masked = op.has(Operand::Mask).then(|| x.clip_with_mask(&bounds, rule)).transpose()?;
        if let (Op::ClipWithMask, Some((y, mask))) = (op, &masked) {
            drop((x, bounds));
            return Ok(vec![(Operand::Y, y.to_vec()?), (Operand::Mask, read(mask.backward(&g)?)?)]);
        }
        let mask = masked.as_ref().map(|(_, mask)| mask);
        let outputs = op.info().outputs;
        let wanted =
            [0, 1, 2].map(|place: usize| outputs.get(place).is_some_and(|&output| self.wants(output)));
        let scalars = self.scalars;
        if !in_place {
            let operands =
                testing::Operands { x: &x, g: &g, mask, bounds: &bounds, rule, scalars, to: None, wanted };
            let made = testing::run(op, &operands)?;
            return made.into_iter().map(|(operand, tensor)| Ok((operand, read(tensor)?))).collect();
        }
        // The other operand stays; what is overwritten is taken out of its place, so that it is not shared.
        let empty = device.tensor(&[], [0])?;
        let target = if op.info().in_place == Some(Operand::G) { &mut g } else { &mut x };
        let mut target = std::mem::replace(target, empty);
        let operands =
            testing::Operands { x: &x, g: &g, mask, bounds: &bounds, rule, scalars, to: None, wanted };
        testing::run_in_place(op, &operands, &mut target)?;
        Ok(vec![(outputs[0], read(target)?)])
    }
}
