//! Runs a program on a device, and checks its tensors against the model.

use std::collections::VecDeque;

use wgclip::op::{MAX_OUTPUTS, Operand};
use wgclip::testing::{self, Operands};
use wgclip::{BackwardRule, Bounds, Device, Error, Mask, NeedsGrad, Result, Tensor};

use crate::model::{self, Array, Limit, Limits};
use crate::program::{Bound, MASKS, MaskSlot, Op, Program, SLOTS, Slot, Upstream, Values};

pub struct Interpreter<'a> {
    device: &'a Device,
    slots: [Option<Held>; SLOTS],
    masks: [Option<Masked>; MASKS],
}

/// A tensor.
#[derive(Clone)]
struct Held {
    tensor: Tensor<f32>,
    model: Array,
}

impl Held {
    fn check(&self) {
        same(&self.tensor.to_vec().expect("it is read"), &self.model.data);
    }
}

/// A mask, and what it was made of.
struct Masked {
    mask: Mask<f32>,
    x: Array,
    limits: Limits,
    rule: BackwardRule,
}

impl<'a> Interpreter<'a> {
    pub fn new(device: &'a Device) -> Self {
        Self { device, slots: [const { None }; SLOTS], masks: [const { None }; MASKS] }
    }

    pub fn run(mut self, program: &Program) {
        for op in &program.0 {
            self.step(op);
        }
        self.slots.iter().flatten().for_each(Held::check);
    }

    /// One operation. `None` if it was refused, as it should be, or there is nothing to do it to.
    fn step(&mut self, op: &Op) -> Option<()> {
        match op {
            Op::New { to, dims, values, owned } => {
                self.slots[to.0] = Some(self.make(&dims.0, values, *owned));
            }
            Op::WrongLength { dims, values, len } => {
                let (expected, actual) = (dims.0.iter().product(), usize::from(*len));
                if actual != expected {
                    let error = Error::LengthMismatch { shape: dims.0.clone(), expected, actual };
                    let data = values.make(actual);
                    assert_eq!(self.device.tensor(&data, &dims.0[..]).err(), Some(error.clone()));
                    assert_eq!(self.device.tensor_from_vec(data, &dims.0[..]).err(), Some(error));
                }
            }
            Op::Clone { from, to } => self.slots[to.0] = Some(self.slot(*from)?.clone()),
            Op::Drop { slot } => drop(self.slot_mut(*slot)?.take()),
            Op::Read { slot } => self.slot(*slot)?.check(),
            Op::Take { slot } => {
                let Held { tensor, model } = self.slot_mut(*slot)?.take()?;
                same(&tensor.into_vec().expect("it is read"), &model.data);
            }
            Op::Run { op, x, g, to, bounds, rule, needs } => {
                let x = self.slot(*x)?.clone();
                let g = self.upstream(g, &x.model.dims)?;
                if x.model.dims != g.model.dims {
                    // That is for the methods of tensors to refuse.
                    return None;
                }
                let (bounds, limits) = self.bounds(&x.model.dims, bounds)?;
                let needs = NeedsGrad::from(*needs);
                let others = model::OTHERS.map(wgclip::Bound::Value);
                let needed = model::needed(op.0, needs);
                let operands = operands(&x.tensor, &g.tensor, &bounds, &others, rule.0, needed);
                let made = testing::run(op.0, &operands);
                let expected = model::run(op.0, &x.model, &g.model, &limits, rule.0, needs);
                let (made, expected) = agree(made, expected)?;
                assert_eq!(made.len(), expected.len());
                for (((operand, tensor), (other, model)), to) in made.into_iter().zip(expected).zip(to) {
                    assert_eq!(operand, other);
                    // Gradients of broadcast inputs come flat.
                    match operand.gradient_of() {
                        Some(_) => same(&tensor.to_vec().expect("it is read"), &model.data),
                        None => self.slots[to.0] = held((tensor, model)),
                    }
                }
            }
            Op::RunInPlace { op, x, g, bounds, rule } => {
                let target = op.0.info().in_place?;
                let x_slot = filled(&self.slots, x.0)?;
                let g_slot = g.slot;
                let dims = self.slots[x_slot].as_ref()?.model.dims.clone();
                // Which may take the place of x.
                let g = self.upstream(g, &dims)?;
                let x = self.slots[x_slot].as_ref()?.clone();
                let (bounds, limits) = self.bounds(&x.model.dims, bounds)?;
                if x.model.dims != g.model.dims {
                    return None;
                }
                let others = model::OTHERS.map(wgclip::Bound::Value);
                let operands = operands(&x.tensor, &g.tensor, &bounds, &others, rule.0, [true; MAX_OUTPUTS]);
                let place = if target == Operand::G { filled(&self.slots, g_slot.0)? } else { x_slot };
                let expected = model::run(op.0, &x.model, &g.model, &limits, rule.0, NeedsGrad::default());
                let target = self.slots[place].as_mut()?;
                let done = testing::run_in_place(op.0, &operands, &mut target.tensor);
                let ((), expected) = agree(done, expected)?;
                target.model = expected.into_iter().next()?.1;
            }
            Op::ClipBackwardBounds { x, g, to, bounds, rule, needs } => {
                let x = self.slot(*x)?.clone();
                let g = self.upstream(g, &x.model.dims)?;
                let (bounds, limits) = self.bounds(&x.model.dims, bounds)?;
                let needs = NeedsGrad::from(*needs);
                let grads = x.tensor.clip_backward_bounds(&g.tensor, &bounds, rule.0, needs);
                let expected = model::clip_backward_bounds(&x.model, &g.model, &limits, rule.0, needs);
                self.put(to, agree(grads, expected)?);
            }
            Op::ClipWithMask { x, to, mask, bounds, rule } => {
                let x = self.slot(*x)?.clone();
                let (bounds, limits) = self.bounds(&x.model.dims, bounds)?;
                let clipped = x.tensor.clip_with_mask(&bounds, rule.0);
                if !rule.0.fits_mask() {
                    assert!(clipped.is_err(), "{}", rule.0);
                    return None;
                }
                let ((tensor, made), y) = agree(clipped, model::clip(&x.model, &limits))?;
                self.slots[to.0] = held((tensor, y));
                self.masks[mask.0] = Some(Masked { mask: made, x: x.model, limits, rule: rule.0 });
            }
            Op::Backward { mask, g, to } => {
                let g = self.upstream(g, &self.masked(*mask)?.x.dims.clone())?;
                let Masked { mask, x, limits, rule } = self.masked(*mask)?;
                let gx = mask.backward(&g.tensor);
                let gx = agree(gx, model::clip_backward(x, &g.model, limits, *rule))?;
                self.slots[to.0] = held(gx);
            }
            Op::BackwardInPlace { mask, g } => {
                self.upstream(g, &self.masked(*mask)?.x.dims.clone())?;
                let Masked { mask, x, limits, rule } = self.masks[filled(&self.masks, mask.0)?].as_ref()?;
                let g = self.slots[filled(&self.slots, g.slot.0)?].as_mut()?;
                let done = mask.backward_in_place(&mut g.tensor);
                ((), g.model) = agree(done, model::clip_backward(x, &g.model, limits, *rule))?;
            }
            Op::DropMask { mask } => self.masks[mask.0] = None,
            Op::HardSigmoid { x, to } => {
                let x = self.slot(*x)?;
                let y = agree(x.tensor.hard_sigmoid(), Ok(model::hard_sigmoid(&x.model)))?;
                self.slots[to.0] = held(y);
            }
            Op::ClipSlice { values, len, bounds } => {
                let x = line(values, *len);
                let (bounds, limits) = self.bounds(&x.dims, bounds)?;
                let mut data = x.data.clone();
                let done = self.device.clip_slice(&mut data, &bounds);
                match of_values(&limits) {
                    true => {
                        done.expect("it is clipped");
                        same(&data, &model::clip(&x, &limits).expect("values broadcast").data);
                    }
                    false => {
                        assert!(matches!(done, Err(Error::Unsupported { .. })), "{done:?}");
                        same(&data, &x.data);
                    }
                }
            }
            Op::ClipStream { values, chunks, bounds, pop } => {
                let chunks: Vec<_> = chunks.iter().map(|&len| line(values, len)).collect();
                let (bounds, limits) = self.bounds(&chunks[0].dims, bounds)?;
                self.stream(&chunks, &bounds, &limits, *pop);
            }
            Op::Flush => self.device.flush().expect("it is flushed"),
            Op::Wait => self.device.wait().expect("it is done"),
            Op::Trim => self.device.trim().expect("it is trimmed"),
        }
        Some(())
    }

    fn stream(&self, chunks: &[Array], bounds: &Bounds<f32>, limits: &Limits, pop: bool) {
        let stream = self.device.clip_stream(bounds);
        if !of_values(limits) {
            assert!(matches!(stream, Err(Error::Unsupported { .. })), "{stream:?}");
            return;
        }
        let mut stream = stream.expect("it is opened");
        let mut waiting = VecDeque::new();
        let out = |chunk: &Array, clipped: &[f32]| {
            same(clipped, &model::clip(chunk, limits).expect("values broadcast").data);
        };
        for chunk in chunks {
            waiting.push_back(chunk);
            if let Some(clipped) = stream.push(chunk.data.clone()).expect("it is taken in") {
                out(waiting.pop_front().expect("it went in"), &clipped);
            }
        }
        if pop {
            while let Some(clipped) = stream.pop().expect("it is clipped") {
                out(waiting.pop_front().expect("it went in"), &clipped);
            }
            assert!(waiting.is_empty());
        } else {
            let back: Vec<_> = stream.into_chunks().collect();
            assert_eq!(back.len(), waiting.len());
            back.iter().zip(waiting).for_each(|(back, chunk)| same(back, &chunk.data));
        }
    }

    fn slot(&self, slot: Slot) -> Option<&Held> {
        self.slots[filled(&self.slots, slot.0)?].as_ref()
    }

    fn slot_mut(&mut self, slot: Slot) -> Option<&mut Option<Held>> {
        let place = filled(&self.slots, slot.0)?;
        Some(&mut self.slots[place])
    }

    fn masked(&self, mask: MaskSlot) -> Option<&Masked> {
        self.masks[filled(&self.masks, mask.0)?].as_ref()
    }

    fn make(&self, dims: &[usize], values: &Values, owned: bool) -> Held {
        let data = values.make(dims.iter().product());
        let tensor = match owned {
            true => self.device.tensor_from_vec(data.clone(), dims),
            false => self.device.tensor(&data, dims),
        };
        Held { tensor: tensor.expect("it is made"), model: Array { dims: dims.to_vec(), data } }
    }

    /// The upstream gradient, which is made first if it is to be new.
    fn upstream(&mut self, g: &Upstream, dims: &[usize]) -> Option<Held> {
        if let Some(values) = &g.new {
            self.slots[g.slot.0] = Some(self.make(dims, values, false));
        }
        self.slot(g.slot).cloned()
    }

    /// Bounds for a tensor of these dimensions, if they are not refused.
    fn bounds(&self, dims: &[usize], bounds: &[Bound; 2]) -> Option<(Bounds<f32>, Limits)> {
        let one = |bound: &Bound| match bound {
            Bound::Absent => (wgclip::Bound::Absent, Limit::Absent),
            Bound::Value(value) => (value.0.into(), Limit::Value(value.0)),
            Bound::Part { part, values } => self.make(&part.of(dims), values, true).into_bound(),
            Bound::Slot(slot) => match self.slot(*slot) {
                Some(held) => held.clone().into_bound(),
                None => (wgclip::Bound::Absent, Limit::Absent),
            },
        };
        let [(lo, lo_limit), (hi, hi_limit)] = [one(&bounds[0]), one(&bounds[1])];
        let limits = [lo_limit, hi_limit];
        agree(Bounds::new(lo, hi), model::check_values(&limits).map(|()| limits))
    }

    /// The gradients of a clip's operands, each into a slot.
    fn put(&mut self, to: &[Slot; 3], (grads, models): (wgclip::BoundGradients<f32>, [Option<Array>; 3])) {
        for ((to, tensor), model) in to.iter().zip([Some(grads.x), grads.lo, grads.hi]).zip(models) {
            assert_eq!(tensor.is_some(), model.is_some(), "what was wanted");
            if let Some(pair) = tensor.zip(model) {
                self.slots[to.0] = held(pair);
            }
        }
    }
}

/// The first place from `from` on, and around, that holds something.
fn filled<T>(places: &[Option<T>], from: usize) -> Option<usize> {
    (from..places.len()).chain(0..from).find(|&place| places[place].is_some())
}

impl Held {
    fn into_bound(self) -> (wgclip::Bound<f32>, Limit) {
        (self.tensor.into(), Limit::Array(self.model))
    }
}

fn operands<'a>(
    x: &'a Tensor<f32>,
    g: &'a Tensor<f32>,
    bounds: &'a Bounds<f32>,
    others: &'a [wgclip::Bound<f32>],
    rule: BackwardRule,
    needs: [bool; MAX_OUTPUTS],
) -> Operands<'a, f32> {
    Operands { others, params: &model::PARAMS, needs, ..Operands::new(x, g, bounds, rule) }
}

fn held((tensor, model): (Tensor<f32>, Array)) -> Option<Held> {
    assert_eq!(tensor.shape().dims(), model.dims);
    Some(Held { tensor, model })
}

fn line(values: &Values, len: u8) -> Array {
    Array { dims: vec![len.into()], data: values.make(len.into()) }
}

fn of_values(limits: &Limits) -> bool {
    !limits.iter().any(|limit| matches!(limit, Limit::Array(_)))
}

/// Both results, or `None` if both are the same error.
fn agree<A, B>(actual: Result<A>, expected: Result<B>) -> Option<(A, B)> {
    match (actual, expected) {
        (Ok(actual), Ok(expected)) => Some((actual, expected)),
        (Err(actual), Err(expected)) => {
            assert_eq!(actual, expected);
            None
        }
        (Err(actual), Ok(_)) => panic!("it fails: {actual}"),
        (Ok(_), Err(expected)) => panic!("it does not fail: {expected}"),
    }
}

fn same(actual: &[f32], expected: &[f32]) {
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(actual), bits(expected));
}
