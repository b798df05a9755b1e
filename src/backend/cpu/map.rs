//! Operations without a loop of their own: each is a function of a block of elements, with the broadcast inputs spread over them.

use std::iter::repeat_with;
use std::sync::PoisonError;

use bytemuck::{cast_slice, cast_slice_mut};

use super::operands::{Operands, Outputs, Sums};
use super::partition::Partition;
use super::reduce::accumulate;
use crate::broadcast::{BoundBits, MAX_BROADCAST, Run};
use crate::element::lane::with_bits;
use crate::norm::exact::{ExactSum, ReduceOp};
use crate::op::{MAX_OUTPUTS, Operand};

/// Elements of a block.
pub(super) const BLOCK: usize = 512;

/// Elements that are copied at once.
const PIECE: usize = 16 * BLOCK;

/// The inputs of a function: bytes of the same number of elements each, which may be of other types than x: broadcast inputs, outputs.
pub(super) struct Block<'a> {
    /// Empty if the operation does not have it.
    pub x: &'a [u8],
    pub g: &'a [u8],
    /// In the order of the operation's row. An absent bound is the type's extreme value.
    pub broadcast: [&'a [u8]; MAX_BROADCAST],
    /// Which of these are present.
    pub present: [bool; MAX_BROADCAST],
    /// Which of these have one value for the whole block.
    pub uniform: [bool; MAX_BROADCAST],
    /// The index of its first element in x.
    pub start: usize,
}

/// Writes the outputs that are present.
pub(super) type Function<'a> = dyn Fn(&Block<'_>, Outputs<'_>) + Sync + 'a;

/// Applies a function to all elements. An output without memory is added to its sum, if it has one.
pub(super) fn for_each_block(
    operands: &Operands<'_>,
    outputs: Outputs<'_>,
    sums: &Sums,
    function: &Function<'_>,
) {
    let parts = Partition::new(operands.element.size(), operands.len);
    let bytes = parts.chunk * operands.to.size();
    // Memory that is written anew is first read, unless it is copied in large pieces: these are overwritten then, while they are in a cache.
    let info = operands.op.info();
    let copies = parts.exceeds_cache()
        && info.inputs == [Operand::X]
        && info.in_place == Some(Operand::X)
        && operands.x.is_some()
        && outputs[0].is_some();
    let stages = parts.exceeds_cache() && info.converts && operands.x.is_some();
    let mut chunked = outputs.map(|output| {
        let chunks = output.map(|output| output.chunks_mut(bytes));
        chunks.into_iter().flatten().map(Some).chain(repeat_with(|| None))
    });
    let mut chunks = (0..operands.len).step_by(parts.chunk).map(|start| {
        (
            start,
            parts.chunk.min(operands.len - start),
            chunked.each_mut().map(|chunks| chunks.next().flatten()),
        )
    });
    parts.for_each(&mut chunks, &|(start, len, outputs)| {
        let new = || ExactSum::new(operands.element.layout().bits, ReduceOp::Sum);
        let sums_of_chunk = sums.each_ref().map(|sum| sum.as_ref().map(|_| new()));
        let mut chunk =
            Chunk { operands, start, outputs, sums: sums_of_chunk, copies, stages, rooms: Rooms::default() };
        chunk.run(len, function);
        for (sum, of_chunk) in sums.iter().zip(chunk.sums) {
            if let (Some(sum), Some(of_chunk)) = (sum, of_chunk) {
                sum.lock().unwrap_or_else(PoisonError::into_inner).merge(&of_chunk);
            }
        }
    });
}

/// Elements that one thread works on at once.
struct Chunk<'a> {
    operands: &'a Operands<'a>,
    start: usize,
    outputs: Outputs<'a>,
    sums: [Option<ExactSum>; MAX_OUTPUTS],
    /// Whether x is copied to the output, to be overwritten there.
    copies: bool,
    /// Whether x is copied to a room, to be read there: a copy keeps more reads of memory in flight than a loop that computes.
    stages: bool,
    rooms: Rooms,
}

/// Memory for a block of each operand without its own.
#[derive(Default)]
struct Rooms {
    target: Vec<u64>,
    staged: Vec<u64>,
    broadcast: [Vec<u64>; MAX_BROADCAST],
    outputs: [Vec<u64>; MAX_OUTPUTS],
}

/// The first bytes of a room.
fn room(words: &mut Vec<u64>, bytes: usize) -> &mut [u8] {
    words.resize(bytes.div_ceil(size_of::<u64>()).max(words.len()), 0);
    &mut cast_slice_mut(words)[..bytes]
}

impl Chunk<'_> {
    fn run(&mut self, len: usize, function: &Function<'_>) {
        let still = [0; MAX_BROADCAST];
        match &self.operands.broadcast.broadcast {
            None => self.run_of(Run { start: self.start, len, first: still, strides: still }, function),
            Some(broadcast) => {
                broadcast.runs(self.start..self.start + len).for_each(|run| self.run_of(run, function));
            }
        }
    }

    /// Runs elements within which every broadcast input either advances with x or stays.
    fn run_of(&mut self, run: Run, function: &Function<'_>) {
        let (operands, element) = (self.operands, self.operands.element);
        let (size, of_output) = (element.size(), operands.to.size());
        let (inputs, of_input) = (&operands.broadcast.inputs, operands.broadcast.element);
        let ends = of_input.layout().ends();
        for (index, (input, room_of)) in inputs.iter().zip(&mut self.rooms.broadcast).enumerate() {
            let bits = match input {
                BoundBits::Absent => {
                    ends[usize::from(operands.broadcast.operands.get(index) == Some(&Operand::Hi))]
                }
                BoundBits::Value(bits) => *bits,
                BoundBits::Tensor(tensor) if run.strides[index] == 0 => {
                    let (mut word, size) = ([0; size_of::<u64>()], of_input.size());
                    word[..size].copy_from_slice(&tensor[run.first[index] * size..][..size]);
                    u64::from_le_bytes(word)
                }
                BoundBits::Tensor(_) => continue,
            };
            let splat = room(room_of, run.len.min(BLOCK) * of_input.size());
            with_bits!(of_input, B => cast_slice_mut::<u8, B>(splat).fill(bits as B));
        }
        for at in (0..run.len).step_by(BLOCK) {
            let len = BLOCK.min(run.len - at);
            let in_x = run.start + at;
            let in_chunk = (in_x - self.start) * of_output..(in_x - self.start + len) * of_output;
            if let (true, true, Some(x), Some(output)) =
                (self.copies, at % PIECE == 0, operands.x, &mut self.outputs[0])
            {
                let bytes = PIECE.min(run.len - at) * size;
                output[in_chunk.start..][..bytes].copy_from_slice(&x[in_x * size..][..bytes]);
            }
            let of_x = operands.x.filter(|_| !self.copies);
            let [mut x, g] =
                [of_x, operands.g].map(|input| input.map(|input| &input[in_x * size..][..len * size]));
            if let (true, Some(all)) = (self.stages, operands.x) {
                if at % PIECE == 0 {
                    let bytes = PIECE.min(run.len - at) * size;
                    room(&mut self.rooms.staged, bytes).copy_from_slice(&all[in_x * size..][..bytes]);
                }
                x = Some(&cast_slice(&self.rooms.staged)[at % PIECE * size..][..len * size]);
            }
            // An input overwritten in place is read from a copy.
            let info = operands.op.info();
            let target = match (info.in_place, &self.outputs[0]) {
                (Some(target), Some(output)) if [x, g][usize::from(target == Operand::G)].is_none() => {
                    // In place, all elements are of one type.
                    let copy = room(&mut self.rooms.target, len * size);
                    copy.copy_from_slice(&output[in_chunk.clone()]);
                    Some((target, &*copy))
                }
                _ => None,
            };
            let of_target = |operand| target.filter(|(target, _)| *target == operand).map(|(_, copy)| copy);
            let mut broadcast = [&[][..]; MAX_BROADCAST];
            for (index, block) in broadcast.iter_mut().enumerate().take(operands.broadcast.operands.len()) {
                let size = of_input.size();
                *block = match &inputs[index] {
                    BoundBits::Tensor(tensor) if run.strides[index] != 0 => {
                        &tensor[(run.first[index] + at) * size..][..len * size]
                    }
                    _ => &cast_slice(&self.rooms.broadcast[index])[..len * size],
                };
            }
            let block = Block {
                x: x.or(of_target(Operand::X)).unwrap_or_default(),
                g: g.or(of_target(Operand::G)).unwrap_or_default(),
                broadcast,
                present: inputs.each_ref().map(|input| !input.is_absent()),
                uniform: std::array::from_fn(|index| {
                    inputs[index].tensor().is_none() || run.strides[index] == 0
                }),
                start: in_x,
            };
            let mut outputs = [const { None }; MAX_OUTPUTS];
            let given = self.outputs.iter_mut().zip(&mut self.rooms.outputs).zip(&self.sums);
            for (output, ((given, room_of), sum)) in outputs.iter_mut().zip(given) {
                *output = match given {
                    Some(given) => Some(&mut given[in_chunk.clone()]),
                    None => sum.as_ref().map(|_| room(room_of, len * size)),
                };
            }
            function(&block, outputs);
            for ((sum, given), room_of) in self.sums.iter_mut().zip(&self.outputs).zip(&self.rooms.outputs) {
                if let (Some(sum), None) = (sum, given) {
                    accumulate(sum, element, &cast_slice(room_of)[..len * size]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::{cast_slice, cast_slice_mut};

    use crate::broadcast::BroadcastInputs;
    use crate::call::Arguments;
    use crate::{Bound, Op, Shape, cpu};

    /// Beyond the caches x is copied in pieces: the result is that of the operation in place.
    #[test]
    fn outputs_beyond_the_caches_are_overwritten_in_place() {
        let (rows, columns) = (5, (1 << 20) + 7);
        let x: Vec<f32> = (0..rows * columns).map(|i| (i % 1009) as f32 - 504.0).collect();
        let of_rows: Vec<f32> = (0..rows).map(|row| 3.0 + row as f32).collect();
        let shapes = [Shape::new([rows, columns]).unwrap(), Shape::new([rows, 1]).unwrap()];
        for (op, second) in [(Op::HardShrink, 400.0), (Op::FakeQuantize, 0.0)] {
            let inputs = [Bound::Tensor((cast_slice(&of_rows), &shapes[1])), Bound::<f32, _>::Value(second)];
            let broadcast = BroadcastInputs::new(op.info().broadcast, &shapes[0], inputs).unwrap();
            let arguments = Arguments::new(&broadcast);
            let (mut y, mut in_place) = (vec![f32::NAN; x.len()], x.clone());
            cpu::run(op, x.len(), &[cast_slice(&x)], &mut [Some(cast_slice_mut(&mut y))], &arguments)
                .unwrap();
            cpu::run(op, x.len(), &[], &mut [Some(cast_slice_mut(&mut in_place))], &arguments).unwrap();
            assert!(y == in_place && y != x, "{op}");
        }
    }
}
