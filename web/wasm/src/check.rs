//! The conformance table for a device that JavaScript drives: it takes a case, runs it, and brings what came out.

use wgclip::bounds::Number;
use wgclip::op::Op;
use wgclip::{BackwardRule, Result};
use wgclip_conformance::{
    ExternalBound, ExternalCase, ExternalNorm, Tally, Tier, external_cases, external_norms,
};

use crate::memory::Buffers;
use crate::names::number_of;
use crate::request::{Request, malformed};
use crate::state::State;

/// The cases that are left, and the one that is being run.
#[derive(Default)]
pub(crate) struct Check {
    cases: Option<Box<dyn Iterator<Item = Box<dyn ExternalCase + Send>> + Send>>,
    norms: Option<Box<dyn Iterator<Item = ExternalNorm> + Send>>,
    case: Option<Case>,
}

enum Case {
    Op(Box<dyn ExternalCase + Send>),
    Norm(ExternalNorm),
}

/// Begins with the cases of a type: of an operation, of whether it works in place, the whole table or the quick one, and a seed; of clipping
/// by a norm in place of an operation that is none.
pub(crate) fn start(state: &mut State, request: &mut Request) -> Result<()> {
    let (element, op, in_place) = (request.element()?, request.index()?, request.flag()?);
    let tier = if request.flag()? { Tier::Full } else { Tier::Quick };
    let seed = request.integer()?;
    state.check = Check::default();
    match Op::ELEMENTWISE.get(op) {
        Some(&op) => state.check.cases = Some(external_cases(element, (op, in_place), tier, seed)),
        None => state.check.norms = Some(external_norms(element, seed)),
    }
    Ok(())
}

/// The next case: nothing, or its operands with the handles of their buffers. Of an operation these are the rule, the shape, x, g, the
/// broadcast inputs, the parameters, and which outputs are needed; of a norm the limit and the tensors.
pub(crate) fn next(state: &mut State) -> Result<()> {
    let State { check, response, buffers, .. } = state;
    let words = &mut response.words;
    if let Some(case) = check.cases.as_mut().and_then(Iterator::next) {
        let rule = number_of(BackwardRule::all(), &case.variant().rule)?;
        words.extend([1.0, rule as f64]);
        shape(words, case.dims());
        for bytes in [case.x(), case.g()] {
            tensor(words, buffers, bytes);
        }
        let broadcast = case.broadcast();
        words.push(broadcast.len() as f64);
        for input in broadcast {
            match input {
                ExternalBound::Absent => words.push(0.0),
                ExternalBound::Value(number) => value(words, number),
                ExternalBound::Tensor(bytes, dims) => {
                    words.push(4.0);
                    tensor(words, buffers, bytes);
                    shape(words, dims);
                }
            }
        }
        words.push(case.params().len() as f64);
        words.extend(case.params());
        let (outputs, needed) = (case.variant().op.info().outputs, case.outputs());
        words.push(outputs.len() as f64);
        words.extend(outputs.iter().map(|output| f64::from(u8::from(needed.contains(output)))));
        check.case = Some(Case::Op(case));
    } else if let Some(norm) = check.norms.as_mut().and_then(Iterator::next) {
        let limit = norm.limit;
        let kind = number_of(wgclip::NormKind::ALL, &limit.kind)?;
        let policy = number_of(wgclip::NonFinitePolicy::ALL, &limit.nonfinite)?;
        words.extend([1.0, limit.max_norm, kind as f64, limit.eps, policy as f64, norm.tensors.len() as f64]);
        for bytes in &norm.tensors {
            tensor(words, buffers, bytes);
        }
        check.case = Some(Case::Norm(norm));
    } else {
        words.push(0.0);
    }
    Ok(())
}

fn shape(words: &mut Vec<f64>, dims: &[usize]) {
    words.push(dims.len() as f64);
    words.extend(dims.iter().map(|&dim| dim as f64));
}

/// A buffer with these bytes: its handle and how many they are. JavaScript releases it.
fn tensor(words: &mut Vec<f64>, buffers: &mut Buffers, bytes: &[u8]) {
    let handle = buffers.allocate(bytes.len());
    let mut buffer = buffers.take(handle);
    if let Some(room) =
        buffer.as_mut().and_then(|buffer| bytemuck::cast_slice_mut(buffer).get_mut(..bytes.len()))
    {
        room.copy_from_slice(bytes);
    }
    buffers.put_back(handle, buffer);
    words.extend([handle as f64, bytes.len() as f64]);
}

fn value(words: &mut Vec<f64>, number: Number) {
    match number {
        Number::Float(value) => words.extend([1.0, value]),
        Number::Integer(value) => {
            let magnitude = value.unsigned_abs();
            words.extend([2.0, f64::from(u8::from(value < 0))]);
            words.extend([64, 32, 0].map(|shift| f64::from((magnitude >> shift) as u32)));
        }
        Number::Beyond { negative } => words.extend([3.0, f64::from(u8::from(negative))]),
    }
}

/// Compares what came of the case: the norm and whether it was an error (of others any two words), and the buffers of its outputs. The
/// response is how many elements were compared and differed, and the first of these as a text.
pub(crate) fn compare(state: &mut State, request: &mut Request) -> Result<()> {
    let (norm, failed, count) = (request.float()?, request.flag()?, request.index()?);
    let handles = (0..count).map(|_| Ok((request.index()?, request.index()?))).collect::<Result<Vec<_>>>()?;
    let outputs = handles
        .into_iter()
        .map(|(handle, len)| state.buffers.bytes(handle, len))
        .collect::<Result<Vec<_>>>()?;
    let Tally { cases, mismatches, first } = match &state.check.case {
        Some(Case::Op(case)) => case.compare("this device", &outputs),
        Some(Case::Norm(case)) => case.compare("this device", norm, failed, &outputs),
        None => return Err(malformed()),
    };
    state.response.words.extend([cases, mismatches].map(|count| count as f64));
    state.response.text = first.map_or_else(String::new, |first| first.to_string());
    Ok(())
}
