//! Tensors of a device beside what they must hold.

use std::collections::VecDeque;

use wgclip::{Bounds, Device, Error, Gradient, Outside, Result, Saved, Tensor, Ties, Wanted};

use crate::model::{self, Array, Limit, Limits};
use crate::program::{Bound, Op, Program, SAVED, SLOTS, SavedSlot, Slot, Upstream, Values};

pub struct World<'a> {
    device: &'a Device,
    slots: [Option<Held>; SLOTS],
    saved: [Option<Kept>; SAVED],
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

/// What a clip saved, and of what.
struct Kept {
    saved: Saved<f32>,
    x: Array,
    limits: Limits,
    rule: Gradient,
    /// Whether it kept its inputs.
    inputs: bool,
}

impl<'a> World<'a> {
    pub fn new(device: &'a Device) -> Self {
        Self { device, slots: [const { None }; SLOTS], saved: [const { None }; SAVED] }
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
            Op::Misfit { dims, values, len } => {
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
            Op::Clip { x, to, bounds } => {
                let x = self.slot(*x)?;
                let (bounds, limits) = self.bounds(&x.model.dims, bounds)?;
                let y = agree(x.tensor.clip(&bounds), model::clip(&x.model, &limits))?;
                self.slots[to.0] = held(y);
            }
            Op::ClipInPlace { x, bounds } => {
                let (bounds, limits) = self.bounds(&self.slot(*x)?.model.dims, bounds)?;
                let x = self.slot_mut(*x)?.as_mut()?;
                let done = x.tensor.clip_in_place(&bounds);
                ((), x.model) = agree(done, model::clip(&x.model, &limits))?;
            }
            Op::HardSigmoid { x, to } => {
                let x = self.slot(*x)?;
                let y = agree(x.tensor.hard_sigmoid(), Ok(model::hard_sigmoid(&x.model)))?;
                self.slots[to.0] = held(y);
            }
            Op::ClipGrad { x, g, to, bounds, rule } => {
                let x = self.slot(*x)?.clone();
                let g = self.upstream(g, &x.model.dims)?;
                let (bounds, limits) = self.bounds(&x.model.dims, bounds)?;
                let gx = x.tensor.clip_grad(&g.tensor, &bounds, rule.0);
                let gx = agree(gx, model::clip_grad(&x.model, &g.model, &limits, rule.0))?;
                self.slots[to.0] = held(gx);
            }
            Op::ClipGradInPlace { x, g, bounds, rule } => {
                let x = self.slot(*x)?.clone();
                self.upstream(g, &x.model.dims)?;
                let (bounds, limits) = self.bounds(&x.model.dims, bounds)?;
                let g = self.slot_mut(g.slot)?.as_mut()?;
                let done = x.tensor.clip_grad_in_place(&mut g.tensor, &bounds, rule.0);
                ((), g.model) = agree(done, model::clip_grad(&x.model, &g.model, &limits, rule.0))?;
            }
            Op::ClipGrads { x, g, to, bounds, rule, wanted } => {
                let x = self.slot(*x)?.clone();
                let g = self.upstream(g, &x.model.dims)?;
                let (bounds, limits) = self.bounds(&x.model.dims, bounds)?;
                let wanted = Wanted::from(*wanted);
                let grads = x.tensor.clip_grads(&g.tensor, &bounds, rule.0, wanted);
                let expected = model::clip_grads(&x.model, &g.model, &limits, rule.0, wanted);
                self.put(to, agree(grads, expected)?);
            }
            Op::ClipSaving { x, to, saved, bounds, rule, inputs } => {
                let x = self.slot(*x)?.clone();
                let (bounds, limits) = self.bounds(&x.model.dims, bounds)?;
                let clipped = match inputs {
                    true => x.tensor.clip_saving_inputs(&bounds, rule.0),
                    false => x.tensor.clip_saving(&bounds, rule.0),
                };
                let ((tensor, kept), y) = agree(clipped, model::clip(&x.model, &limits))?;
                self.slots[to.0] = held((tensor, y));
                // One bit cannot tell what these ask for.
                let bit = rule.0.outside == Outside::StraightThrough
                    || rule.0.outside == Outside::Masked && rule.0.ties != Ties::Half;
                let inputs = *inputs || !bit;
                self.saved[saved.0] = Some(Kept { saved: kept, x: x.model, limits, rule: rule.0, inputs });
            }
            Op::Backward { saved, g, to } => {
                let g = self.upstream(g, &self.kept(*saved)?.x.dims.clone())?;
                let Kept { saved, x, limits, rule, .. } = self.kept(*saved)?;
                let gx = saved.backward(&g.tensor);
                let gx = agree(gx, model::clip_grad(x, &g.model, limits, *rule))?;
                self.slots[to.0] = held(gx);
            }
            Op::BackwardInPlace { saved, g } => {
                self.upstream(g, &self.kept(*saved)?.x.dims.clone())?;
                let Kept { saved, x, limits, rule, .. } =
                    self.saved[filled(&self.saved, saved.0)?].as_ref()?;
                let g = self.slots[filled(&self.slots, g.slot.0)?].as_mut()?;
                let done = saved.backward_in_place(&mut g.tensor);
                ((), g.model) = agree(done, model::clip_grad(x, &g.model, limits, *rule))?;
            }
            Op::BackwardAll { saved, g, to, wanted } => {
                let g = self.upstream(g, &self.kept(*saved)?.x.dims.clone())?;
                let Kept { saved, x, limits, rule, inputs } = self.kept(*saved)?;
                let wanted = Wanted::from(*wanted);
                let grads = saved.backward_all(&g.tensor, wanted);
                let expected = match *inputs || wanted == Wanted::default() {
                    true => model::clip_grads(x, &g.model, limits, *rule, wanted),
                    false => x.check_same(&g.model).and(Err(Error::NotSaved)),
                };
                let grads = agree(grads, expected)?;
                self.put(to, grads);
            }
            Op::DropSaved { saved } => self.saved[saved.0] = None,
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

    fn kept(&self, saved: SavedSlot) -> Option<&Kept> {
        self.saved[filled(&self.saved, saved.0)?].as_ref()
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

    /// Bounds beside a tensor of these dimensions, if they are not refused.
    fn bounds(&self, dims: &[usize], bounds: &[Bound; 2]) -> Option<(Bounds<f32>, Limits)> {
        let one = |bound: &Bound| match bound {
            Bound::Absent => (wgclip::Bound::Absent, Limit::Absent),
            Bound::Value(value) => (value.0.into(), Limit::Value(value.0)),
            Bound::Beside { part, values } => self.make(&part.of(dims), values, true).into_bound(),
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
    fn put(&mut self, to: &[Slot; 3], (grads, models): (wgclip::Grads<f32>, [Option<Array>; 3])) {
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
