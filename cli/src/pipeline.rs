//! Moves tensors of any size from file to file in batches. A large tensor is split into several batches,
//! many small ones share one, and memory is bounded by the number of live batches.

use std::collections::{HashMap, VecDeque};
use std::io::Read;

use anyhow::{Context, Result};

use crate::batch::{Batch, Kind, Operands};
use crate::files::{Layout, TensorWriter};
use crate::resources::Resources;

/// Maximum number of live batches: one of each kind is being filled, and some wait for the device or to be written.
const ALIVE: usize = 8;

/// Maximum number of steps that wait to be written, when many tensors wait for the batch of an earlier one.
const STEPS: usize = 1 << 16;

/// Writes a copy of a file, with some of its tensors changed.
pub(crate) struct Pipeline<'a> {
    resources: &'a mut Resources,
    writer: Box<dyn TensorWriter + 'a>,
    /// The pending writes, in order.
    steps: VecDeque<Step>,
    /// The batch of each kind that is being filled.
    open: HashMap<Kind, u64>,
    alive: HashMap<u64, State>,
    /// Written batches, whose memory is reused.
    spare: HashMap<Kind, Batch>,
    /// The number of batches on the device.
    begun: usize,
    next: u64,
}

enum Step {
    Begin(usize),
    Copy(usize),
    /// The batch, and how many of its next elements.
    Write(u64, usize),
}

struct State {
    batch: Batch,
    kind: Kind,
    stage: Stage,
}

#[derive(PartialEq)]
enum Stage {
    Filled,
    Begun,
    Done,
}

impl<'a> Pipeline<'a> {
    pub(crate) fn new(resources: &'a mut Resources, writer: Box<dyn TensorWriter + 'a>) -> Self {
        let (open, alive, spare) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { resources, writer, steps: VecDeque::new(), open, alive, spare, begun: 0, next: 0 }
    }

    /// Counts bytes that were read but will not be written.
    pub(crate) fn progress(&mut self, bytes: usize) {
        self.resources.progress(bytes);
    }

    /// Copies a tensor unchanged.
    pub(crate) fn copy(&mut self, index: usize) -> Result<()> {
        self.steps.push_back(Step::Copy(index));
        self.write(false)
    }

    /// Adds a tensor of `len` elements, which are converted from one layout to another.
    pub(crate) fn push(
        &mut self,
        index: usize,
        (name, kind, len): (&str, Kind, usize),
        from: (&mut dyn Read, Layout, Layout),
        operands: &mut Operands,
    ) -> Result<()> {
        self.steps.push_back(Step::Begin(index));
        let mut start = 0;
        while start < len {
            let id = self.batch_of(kind);
            let state = self.alive.get_mut(&id).context("a batch is gone")?;
            let end = len.min(start + state.batch.room());
            state.batch.read(name, start..end, (&mut *from.0, from.1, from.2), operands)?;
            let full = state.batch.room() == 0;
            self.steps.push_back(Step::Write(id, end - start));
            start = end;
            if full {
                self.begin(id)?;
                self.write(false)?;
            }
        }
        // Also for tensors without elements.
        self.write(false)
    }

    /// Writes everything pending, and the end of the file.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.write(true)?;
        self.writer.finish()
    }

    /// The batch of a kind that is being filled.
    fn batch_of(&mut self, kind: Kind) -> u64 {
        if let Some(&id) = self.open.get(&kind) {
            return id;
        }
        self.next += 1;
        let room = self.resources.batch_bytes() / kind.element.size();
        let batch = self.spare.remove(&kind).unwrap_or_else(|| Batch::new(kind, room));
        self.alive.insert(self.next, State { batch, kind, stage: Stage::Filled });
        self.open.insert(kind, self.next);
        self.next
    }

    fn begin(&mut self, id: u64) -> Result<()> {
        let State { batch, kind, stage } = self.alive.get_mut(&id).context("a batch is gone")?;
        self.open.remove(kind);
        self.resources.begin(batch)?;
        *stage = Stage::Begun;
        self.begun += 1;
        Ok(())
    }

    /// Writes what can be written without waiting, or all.
    fn write(&mut self, all: bool) -> Result<()> {
        while let Some(step) = self.steps.front() {
            match *step {
                Step::Begin(index) => self.writer.begin(index)?,
                Step::Copy(index) => self.writer.copy(index)?,
                Step::Write(id, len) => {
                    let crowded = self.alive.len() > ALIVE || self.steps.len() > STEPS;
                    let state = self.alive.get_mut(&id).context("a batch is gone")?;
                    if state.stage == Stage::Filled {
                        if !all && !crowded {
                            return Ok(());
                        }
                        self.begin(id)?;
                        continue;
                    }
                    if state.stage == Stage::Begun {
                        if !all && !crowded && self.begun < self.resources.in_flight() {
                            return Ok(());
                        }
                        self.resources.finish(&mut state.batch)?;
                        state.stage = Stage::Done;
                        self.begun -= 1;
                    }
                    let bytes = state.batch.write(len);
                    self.writer.write(bytes)?;
                    self.resources.progress(len * state.kind.element.size());
                    if state.batch.is_written()
                        && let Some(mut state) = self.alive.remove(&id)
                    {
                        state.batch.reset();
                        self.spare.insert(state.kind, state.batch);
                    }
                }
            }
            self.steps.pop_front();
        }
        Ok(())
    }
}
