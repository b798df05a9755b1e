//! What a thread does, and its model.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context as Waiting, Waker};

use fastrand::Rng;
use pollster::block_on;
use wgclip::{BackwardRule, Bounds, Device, Error, Result, Tensor, reference};
use wgpu::BufferUsages as Usages;

/// Tensors that a thread holds at the most.
const HELD: usize = 12;

/// A device, and what its owner may do with it besides.
#[derive(Clone)]
pub(super) struct Shared {
    pub device: Device,
    pub wgpu: Option<(wgpu::Device, wgpu::Queue)>,
    /// Whether its memory is bounded now and then.
    pub budgets: bool,
    pub destroyed: Arc<AtomicBool>,
    pub callbacks: Arc<AtomicU64>,
    pub refusals: Arc<Refusals>,
}

/// Calls that ended in an error which may come.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub memory: AtomicU64,
    /// Of tensors that have nothing to do with a bad buffer, but were submitted with it.
    pub others: AtomicU64,
}

/// A tensor, and what must be in it.
#[derive(Clone)]
struct Known {
    tensor: Tensor<f32>,
    values: Vec<f32>,
    made_by: &'static str,
}

/// What a thread does.
pub(super) struct Program {
    pub shared: Shared,
    rng: Rng,
    held: Vec<Known>,
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Panics at the first element whose bits differ.
fn assert_same(what: &str, device: &Device, got: &[f32], expected: &[f32]) {
    let wrong = || got.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
    if !same(got, expected) {
        let at = wrong().map(|i| (i, got[i], expected[i]));
        let count = got.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        let lens = (got.len(), expected.len());
        panic!("{device:?}: wrong bits {what}: first {at:?} (index, got, expected), {count} of {lens:?}");
    }
}

fn clip_all(x: &[f32], lo: impl Fn(usize) -> Option<f32>, hi: impl Fn(usize) -> Option<f32>) -> Vec<f32> {
    x.iter().enumerate().map(|(i, &x)| reference::clip(x, lo(i), hi(i))).collect()
}

impl Program {
    pub(super) fn new(shared: Shared, seed: u64) -> Self {
        Self { shared, rng: Rng::with_seed(seed), held: Vec::new() }
    }

    fn values(&mut self, len: usize) -> Vec<f32> {
        let special = [f32::NAN, -0.0, 0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 1.0];
        let rng = &mut self.rng;
        (0..len)
            .map(|_| if rng.u8(..) < 32 { *rng.choice(&special).unwrap() } else { rng.f32() * 4.0 - 2.0 })
            .collect()
    }

    fn len(&mut self) -> usize {
        match self.rng.u8(..) {
            0..4 => 0,
            4..250 => self.rng.usize(1..=3000),
            _ => self.rng.usize(1..=400_000),
        }
    }

    fn scalar(&mut self) -> Option<f32> {
        (self.rng.u8(..) > 50).then(|| self.rng.f32() * 2.0 - 1.0)
    }

    fn rule(&mut self) -> BackwardRule {
        self.rng.choice(BackwardRule::PRESETS.iter().map(|(_, rule)| *rule)).unwrap()
    }

    fn hold(&mut self, made_by: &'static str, tensor: Tensor<f32>, values: Vec<f32>) {
        if self.held.len() == HELD {
            self.held.swap_remove(self.rng.usize(..HELD));
        }
        self.held.push(Known { tensor, values, made_by });
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.held.is_empty()).then(|| self.rng.usize(..self.held.len()))
    }

    fn upload(&mut self) -> Result<()> {
        let len = self.len();
        let values = self.values(len);
        let tensor = match self.rng.bool() {
            true => self.shared.device.tensor(&values, [len])?,
            false => self.shared.device.tensor_from_vec(values.clone(), [len])?,
        };
        self.hold("upload", tensor, values);
        Ok(())
    }

    /// One step, and what it was.
    pub(super) fn step(&mut self) -> (&'static str, Result<()>) {
        let Some(i) = self.pick() else { return ("upload", self.upload()) };
        match self.rng.u8(..100) {
            0..12 => ("upload", self.upload()),
            12..17 => {
                let Known { tensor, values, made_by } = self.held[i].clone();
                self.hold(made_by, tensor, values);
                ("clone", Ok(()))
            }
            17..22 => {
                self.held.swap_remove(i);
                ("drop", Ok(()))
            }
            22..34 => ("clip", self.clip(i)),
            34..40 => ("clip beside tensors", self.clip_beside_tensors(i)),
            40..50 => ("clip in place", self.clip_in_place(i)),
            50..58 => ("backward", self.backward(i)),
            58..64 => ("mask", self.mask(i)),
            64..80 => ("read", self.read(i)),
            80..84 => ("read given up", self.give_up(i)),
            84..87 => ("slice", self.slice()),
            87..89 => ("stream", self.stream()),
            89..91 => ("flush or wait", self.flush()),
            91..92 => ("budget or trim", self.budget()),
            92..95 => ("pass of the caller's", self.pass(i)),
            95..97 => ("buffer of the caller's", self.own_buffer()),
            97..98 => ("bad buffer", self.bad_buffer()),
            _ => ("callback", self.callback(i)),
        }
    }

    fn clip(&mut self, i: usize) -> Result<()> {
        let (lo, hi) = (self.scalar(), self.scalar());
        let Known { tensor, values, .. } = &self.held[i];
        let y = tensor.clip(Bounds::new(lo, hi)?)?;
        let values = clip_all(values, |_| lo, |_| hi);
        self.hold("clip", y, values);
        Ok(())
    }

    fn clip_beside_tensors(&mut self, i: usize) -> Result<()> {
        let len = self.held[i].values.len();
        let (lo, hi) = (self.values(len), self.scalar());
        let one = self.rng.bool() || len == 0;
        let lo = if one { vec![0.25] } else { lo };
        let bound = self.shared.device.tensor(&lo, [lo.len()])?;
        let Known { tensor, values, .. } = &self.held[i];
        let y = tensor.clip(Bounds::new(bound, hi)?)?;
        let values = clip_all(values, |i| Some(lo[if one { 0 } else { i }]), |_| hi);
        self.hold("clip beside tensors", y, values);
        Ok(())
    }

    fn clip_in_place(&mut self, i: usize) -> Result<()> {
        let (lo, hi) = (self.scalar(), self.scalar());
        let Known { tensor, values, made_by } = &mut self.held[i];
        tensor.clip_in_place(Bounds::new(lo, hi)?)?;
        *values = clip_all(values, |_| lo, |_| hi);
        *made_by = "clip in place";
        Ok(())
    }

    fn backward(&mut self, i: usize) -> Result<()> {
        let (lo, hi, rule) = (self.scalar(), self.scalar(), self.rule());
        let x = self.held[i].clone();
        let g = self.values(x.values.len());
        let mut upstream = self.shared.device.tensor(&g, [g.len()])?;
        let bounds = Bounds::new(lo, hi)?;
        let gx = match self.rng.bool() {
            true => x.tensor.clip_backward(&upstream, &bounds, rule)?,
            false => {
                x.tensor.clip_backward_in_place(&mut upstream, &bounds, rule)?;
                upstream
            }
        };
        let values =
            x.values.iter().zip(&g).map(|(&x, &g)| reference::clip_backward(x, g, lo, hi, rule)).collect();
        self.hold("backward", gx, values);
        Ok(())
    }

    fn mask(&mut self, i: usize) -> Result<()> {
        let (lo, hi, rule) = (self.scalar(), self.scalar(), BackwardRule::default());
        let x = self.held[i].clone();
        let g = self.values(x.values.len());
        let (y, mask) = x.tensor.clip_with_mask(Bounds::new(lo, hi)?, rule)?;
        let gx = mask.backward(&self.shared.device.tensor(&g, [g.len()])?)?;
        self.hold("clip with mask", y, clip_all(&x.values, |_| lo, |_| hi));
        let values =
            x.values.iter().zip(&g).map(|(&x, &g)| reference::clip_backward(x, g, lo, hi, rule)).collect();
        self.hold("mask backward", gx, values);
        Ok(())
    }

    fn read(&mut self, i: usize) -> Result<()> {
        let known = &self.held[i];
        let (what, read) = match self.rng.u8(..3) {
            0 => ("to_vec", known.tensor.to_vec()?),
            1 => ("read", block_on(known.tensor.read())?),
            _ => {
                let Known { tensor, values, .. } = self.held.swap_remove(i);
                let read = tensor.into_vec()?;
                assert_same("into_vec", &self.shared.device, &read, &values);
                return Ok(());
            }
        };
        assert_same(&format!("{what} of {}", known.made_by), &self.shared.device, &read, &known.values);
        Ok(())
    }

    /// A read that is begun, polled, and dropped.
    fn give_up(&mut self, i: usize) -> Result<()> {
        let tensor = self.held[i].tensor.clone();
        let mut read = Box::pin(tensor.read());
        let _ = read.as_mut().poll(&mut Waiting::from_waker(Waker::noop()));
        Ok(())
    }

    fn slice(&mut self) -> Result<()> {
        let (lo, hi, len) = (self.scalar(), self.scalar(), self.rng.usize(..200_000));
        let before = self.values(len);
        let mut data = before.clone();
        let clipped = self.shared.device.clip_slice(&mut data, Bounds::new(lo, hi)?);
        match clipped {
            Ok(()) => assert!(same(&data, &clip_all(&before, |_| lo, |_| hi)), "wrong bits in a slice"),
            Err(_) => assert!(same(&data, &before), "a failed call has changed a slice"),
        }
        clipped
    }

    fn stream(&mut self) -> Result<()> {
        let (lo, hi) = (self.scalar(), self.scalar());
        let mut stream = self.shared.device.clip_stream(Bounds::new(lo, hi)?)?;
        let chunks: Vec<_> = (0..5)
            .map(|_| {
                let len = self.rng.usize(..20_000);
                self.values(len)
            })
            .collect();
        let mut clipped = Vec::new();
        let mut run = || -> Result<()> {
            for chunk in &chunks {
                clipped.extend(stream.push(chunk.clone())?);
            }
            while let Some(chunk) = stream.pop()? {
                clipped.push(chunk);
            }
            Ok(())
        };
        let ran = run();
        for (chunk, clipped) in chunks.iter().zip(&clipped) {
            assert!(same(clipped, &clip_all(chunk, |_| lo, |_| hi)), "wrong bits in a stream");
        }
        for (chunk, left) in chunks[clipped.len()..].iter().zip(stream.into_chunks()) {
            assert!(same(chunk, &left), "a failed call has changed a chunk");
        }
        ran
    }

    fn flush(&mut self) -> Result<()> {
        let device = &self.shared.device;
        let flushed = if self.rng.bool() { device.flush() } else { device.wait() };
        // It may be another thread's bad buffer.
        flushed
            .or_else(|error| if matches!(error, Error::InvalidBuffer { .. }) { Ok(()) } else { Err(error) })
    }

    fn budget(&mut self) -> Result<()> {
        if self.shared.budgets {
            let bytes = if self.rng.bool() { u64::MAX } else { self.rng.u64(100_000..5_000_000) };
            self.shared.device.set_memory_budget(bytes);
        }
        self.shared.device.trim()
    }

    /// The caller copies a tensor's buffer in a submission of its own.
    fn pass(&mut self, i: usize) -> Result<()> {
        let Some((device, queue)) = &self.shared.wgpu else { return Ok(()) };
        let known = &self.held[i];
        let Some(slice) = known.tensor.buffer()? else { return Ok(()) };
        if self.shared.destroyed.load(Ordering::Acquire) {
            return Ok(());
        }
        let usage = Usages::COPY_DST | Usages::MAP_READ;
        let desc =
            wgpu::BufferDescriptor { label: None, size: slice.size(), usage, mapped_at_creation: false };
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let to = device.create_buffer(&desc);
        let mut encoder = device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(slice.buffer(), slice.offset(), &to, 0, slice.size());
        queue.submit([encoder.finish()]);
        let (sender, mapped) = mpsc::channel();
        to.map_async(wgpu::MapMode::Read, .., move |result| drop(sender.send(result)));
        // Another thread's poll may have it in hand.
        while matches!(mapped.try_recv(), Err(mpsc::TryRecvError::Empty)) {
            let _ = device.poll(wgpu::PollType::wait_indefinitely());
        }
        if let Ok(view) = to.get_mapped_range(..) {
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(&view);
            assert!(same(&values[..known.values.len()], &known.values), "wrong bits in the caller's copy");
        }
        let error = block_on(scope.pop());
        assert!(error.is_none() || self.shared.destroyed.load(Ordering::Acquire), "{error:?}");
        Ok(())
    }

    /// A tensor in a buffer of the caller's.
    fn own_buffer(&mut self) -> Result<()> {
        let Some((device, queue)) = self.shared.wgpu.clone() else { return Ok(()) };
        if self.shared.destroyed.load(Ordering::Acquire) {
            return Ok(());
        }
        let len = self.rng.usize(1..2000);
        let values = self.values(len.next_multiple_of(4));
        let usage = Usages::STORAGE | Usages::COPY_SRC | Usages::COPY_DST;
        let size = 4 * values.len() as u64;
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        });
        queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&values));
        let error = block_on(scope.pop());
        assert!(error.is_none() || self.shared.destroyed.load(Ordering::Acquire), "{error:?}");
        let tensor = Tensor::from_buffer(&self.shared.device, buffer, 0, [len])?;
        self.hold("the caller's buffer", tensor, values[..len].to_vec());
        Ok(())
    }

    /// An operation on a buffer that is mapped. Either it says so, or what it makes does.
    fn bad_buffer(&mut self) -> Result<()> {
        let Some((device, _)) = self.shared.wgpu.clone() else { return Ok(()) };
        if self.shared.destroyed.load(Ordering::Acquire) {
            return Ok(());
        }
        let desc = wgpu::BufferDescriptor {
            label: None,
            size: 256,
            usage: Usages::STORAGE,
            mapped_at_creation: true,
        };
        let bad = Tensor::<f32>::from_buffer(&self.shared.device, device.create_buffer(&desc), 0, [64])?;
        match bad.clip(0.0..=1.0).and_then(|y| y.to_vec()) {
            Err(Error::InvalidBuffer { .. }) => Ok(()),
            Ok(_) => panic!("a mapped buffer was read"),
            Err(error) => Err(error),
        }
    }

    /// A callback that clips and reads a tensor of this thread's.
    fn callback(&mut self, i: usize) -> Result<()> {
        let Some((_, queue)) = &self.shared.wgpu else { return Ok(()) };
        let Known { tensor, values, .. } = self.held[i].clone();
        let shared = self.shared.clone();
        let (hi, kind) = (self.rng.f32(), self.rng.u8(..3));
        queue.on_submitted_work_done(move || {
            let called = || -> Result<()> {
                let y = tensor.clip(Bounds::at_most(hi)?)?;
                let y = match kind {
                    0 => y.to_vec()?,
                    1 => block_on(y.read())?,
                    _ => return shared.device.flush(),
                };
                assert_same("in a callback", &shared.device, &y, &clip_all(&values, |_| None, |_| Some(hi)));
                Ok(())
            };
            check(called(), &shared, "in a callback");
            shared.callbacks.fetch_add(1, Ordering::Relaxed);
        });
        Ok(())
    }
}

/// Which errors may come.
pub(super) fn check(result: Result<()>, shared: &Shared, what: &str) {
    let count = |counter: &AtomicU64| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    match result {
        Ok(()) => {}
        Err(Error::OutOfMemory { .. }) if shared.budgets => count(&shared.refusals.memory),
        Err(Error::Blocked { .. } | Error::InvalidBuffer { .. }) => count(&shared.refusals.others),
        Err(Error::DeviceLost { .. }) if shared.destroyed.load(Ordering::Acquire) => {}
        Err(error) => panic!("{what}: {error}"),
    }
}
