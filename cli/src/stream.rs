//! `wgclip clip` on a file that is larger than the memory it may take: in chunks, from file to file.

use std::io::{ErrorKind, Read, Write};

use anyhow::{Result, anyhow};
use indicatif::ProgressBar;
use wgclip::{Bounds, Element};

use crate::files::{Layout, TensorFile};
use crate::output::Output;
use crate::progress;
use crate::run::Session;

/// Chunks that the memory is to hold: some wait for the device, and a software adapter holds its buffers there too.
const CHUNKS: u64 = 24;

/// Clips the chosen tensors on their way into the new file.
pub(crate) fn clip(
    mut run: Session<'_>,
    mut file: TensorFile,
    chosen: &[usize],
    output: Output,
    memory: u64,
) -> Result<()> {
    let direct = output.is_direct();
    let tensors: Vec<_> = chosen
        .iter()
        .map(|&index| Ok((index, file.element(index)?, file.entry(index).shape.len(), file.layout(index))))
        .collect::<Result<_>>()?;
    let names: Vec<_> = chosen.iter().map(|&index| file.describe(index)).collect();
    let bar = match run.is_quiet() {
        true => ProgressBar::hidden(),
        false => progress::bytes(chosen.iter().map(|&index| file.entry(index).bytes()).sum()),
    };
    output.finish(|out| {
        file.stream(out, chosen, &mut |index, from, to| {
            let place = tensors.iter().position(|tensor| tensor.0 == index);
            let Some(place) = place else { return Ok(()) };
            let (_, element, len, layout) = tensors[place];
            wgclip::with_element!(element, T => {
                let bounds = run.bounds::<T>(&names[place])?;
                let tensor = Tensor { name: &names[place], len, layout, chunk: chunk::<T>(memory), bar: &bar };
                tensor.pass(&mut run, &bounds, from, to)
            })
        })
    })?;
    bar.finish_and_clear();
    run.report(direct);
    Ok(())
}

/// Elements of a chunk.
fn chunk<T>(memory: u64) -> usize {
    ((memory / CHUNKS).clamp(64 << 10, 32 << 20) as usize) / size_of::<T>()
}

struct Tensor<'a> {
    name: &'a str,
    /// Elements.
    len: usize,
    layout: Layout,
    /// Elements that are read at once.
    chunk: usize,
    bar: &'a ProgressBar,
}

impl Tensor<'_> {
    fn pass<T: Element>(
        &self,
        run: &mut Session<'_>,
        bounds: &Bounds<T>,
        from: &mut dyn Read,
        to: &mut dyn Write,
    ) -> Result<()> {
        let mut stream =
            run.timed(2 * self.len * size_of::<T>(), |device| Ok(device.clip_stream(bounds)?))?;
        let (mut left, mut spare) = (self.len, Vec::new());
        loop {
            let done = if left > 0 {
                let mut chunk: Vec<T> = spare.pop().unwrap_or_default();
                chunk.resize(left.min(self.chunk), T::ZERO);
                left -= chunk.len();
                from.read_exact(bytemuck::cast_slice_mut(&mut chunk)).map_err(|error| {
                    match error.kind() {
                        ErrorKind::UnexpectedEof => {
                            anyhow!("{} is damaged: its data ends too early", self.name)
                        }
                        _ => anyhow!("cannot read {}: {error}", self.name),
                    }
                })?;
                self.layout.swap(&mut chunk);
                run.count_values(&chunk, bounds);
                run.timed(0, |_| Ok(stream.push(chunk)?))?
            } else {
                match run.timed(0, |_| Ok(stream.pop()?))? {
                    None => return Ok(()),
                    done => done,
                }
            };
            if let Some(mut done) = done {
                self.layout.swap(&mut done);
                to.write_all(bytemuck::cast_slice(&done))?;
                self.bar.inc(size_of_val(&done[..]) as u64);
                spare.push(done);
            }
        }
    }
}
