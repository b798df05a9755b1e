//! Buffers that are used again: a fresh one is zero-filled by wgpu, which costs as much as a kernel.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dispatch::BLOCK;
use crate::Stats;

/// Bytes of idle buffers that are kept. Beyond it a buffer is freed when it comes back.
const IDLE: u64 = 1 << 30;

/// What a buffer is for. Each has its own usages, so they are not exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Read and written by kernels, copied from and to.
    Storage,
    /// Copied to, and mapped by the host.
    Readback,
}

/// Who writes the buffer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstWrite {
    /// A command that is recorded after those pending, so any idle buffer will do.
    Recorded,
    /// The queue, *before* the pending commands: the buffer must not be in use by them. Or the host, at once, if the
    /// device [has done](Pool::is_done) with it: such a buffer is preferred.
    Queued,
}

/// A buffer of the pool's.
#[derive(Debug)]
pub struct Slab {
    pub buffer: wgpu::Buffer,
    /// No other buffer of the pool has or had it.
    pub id: u64,
    pub purpose: Purpose,
    /// The generation of the last command that uses it.
    last_use: AtomicU64,
}

/// The buffers of a device: it knows all, and keeps the idle ones.
#[derive(Debug)]
pub struct Pool {
    state: Mutex<State>,
    /// The generation of the commands that are pending: each submission begins another.
    generation: AtomicU64,
    /// The generations before this one are done.
    done: Arc<AtomicU64>,
    /// Whether buffers were freed that bind groups may still hold.
    freed: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// By purpose and size, then by id.
    idle: HashMap<(Purpose, u64), BTreeMap<u64, Slab>>,
    stats: Stats,
    budget: u64,
    next_id: u64,
}

impl State {
    fn idle_bytes(&self) -> u64 {
        self.stats.reserved - self.stats.in_use
    }

    fn free(&mut self, slab: Slab) {
        self.stats.reserved -= slab.buffer.size();
    }
}

impl Default for Pool {
    fn default() -> Self {
        let state = State { idle: HashMap::new(), stats: Stats::default(), budget: u64::MAX, next_id: 0 };
        Self {
            state: Mutex::new(state),
            generation: AtomicU64::new(1),
            done: Arc::new(AtomicU64::new(1)),
            freed: AtomicBool::new(false),
        }
    }
}

impl Pool {
    /// The size of the buffer that holds `bytes`: whole blocks, in classes that waste an eighth at most.
    /// Never zero, since wgpu binds no empty buffer.
    pub fn class(bytes: u64, max_buffer: u64) -> u64 {
        let bytes = bytes.max(256);
        let step = (1 << bytes.ilog2()) / 8;
        bytes.next_multiple_of(step).min(max_buffer / BLOCK * BLOCK).max(bytes.next_multiple_of(BLOCK))
    }

    /// An idle buffer of exactly `size` bytes.
    pub fn take(&self, purpose: Purpose, size: u64, first: FirstWrite) -> Option<Slab> {
        let mut state = self.state();
        let slabs = state.idle.get_mut(&(purpose, size))?;
        // The oldest of them, so that a loop gets the same ones each time, and with them its bind groups.
        let mut oldest = slabs.values();
        let found = match first {
            FirstWrite::Recorded => oldest.next(),
            FirstWrite::Queued => {
                oldest.clone().find(|slab| self.is_done(slab)).or(oldest.find(|slab| !self.is_pending(slab)))
            }
        };
        let id = found?.id;
        let slab = slabs.remove(&id)?;
        state.stats.in_use += size;
        state.stats.buffers_reused += 1;
        Some(slab)
    }

    /// Makes room within the budget for `size` bytes that are about to be created, at the cost of idle buffers.
    /// Returns whether there is room.
    pub fn reserve(&self, size: u64) -> bool {
        let mut state = self.state();
        if state.stats.in_use.saturating_add(size) > state.budget {
            return false;
        }
        let room = state.budget - size;
        self.shrink(&mut state, room);
        state.stats.in_use += size;
        state.stats.reserved += size;
        state.stats.high_water = state.stats.high_water.max(state.stats.reserved);
        true
    }

    /// Takes in a buffer for which room was reserved.
    pub fn adopt(&self, purpose: Purpose, buffer: wgpu::Buffer) -> Slab {
        let mut state = self.state();
        state.stats.buffers_created += 1;
        state.next_id += 1;
        Slab { buffer, id: state.next_id, purpose, last_use: AtomicU64::new(0) }
    }

    /// Gives up the room that was reserved.
    pub fn unreserve(&self, size: u64) {
        let mut state = self.state();
        state.stats.in_use -= size;
        state.stats.reserved -= size;
    }

    /// Notes that a command uses a buffer which is pending or will be before the next submission.
    pub fn used(&self, slab: &Slab) {
        slab.last_use.store(self.generation.load(Ordering::Acquire), Ordering::Release);
    }

    fn is_pending(&self, slab: &Slab) -> bool {
        slab.last_use.load(Ordering::Acquire) >= self.generation.load(Ordering::Acquire)
    }

    /// Whether the device has done all that uses a buffer.
    pub fn is_done(&self, slab: &Slab) -> bool {
        slab.last_use.load(Ordering::Acquire) < self.done.load(Ordering::Acquire)
    }

    /// Takes back a buffer that nothing but pending or submitted commands uses.
    pub fn give_back(&self, slab: Slab) {
        let size = slab.buffer.size();
        let mut state = self.state();
        state.stats.in_use -= size;
        if state.idle_bytes() <= IDLE && state.stats.reserved <= state.budget {
            state.idle.entry((slab.purpose, size)).or_default().insert(slab.id, slab);
        } else {
            state.free(slab);
            self.freed.store(true, Ordering::Release);
        }
    }

    /// Frees a buffer that cannot be used again.
    pub fn discard(&self, slab: Slab) {
        let mut state = self.state();
        state.stats.in_use -= slab.buffer.size();
        state.free(slab);
    }

    /// Frees idle buffers until no more than `bytes` are reserved, or none is idle.
    pub fn shrink_to(&self, bytes: u64) {
        self.shrink(&mut self.state(), bytes);
    }

    fn shrink(&self, state: &mut State, bytes: u64) {
        while state.stats.reserved > bytes {
            // The largest first: the fewest have to be created again.
            let largest = state.idle.iter().filter(|(_, slabs)| !slabs.is_empty()).map(|(&key, _)| key);
            let Some(largest) = largest.max_by_key(|(_, size)| *size) else { return };
            let Some((_, slab)) = state.idle.get_mut(&largest).and_then(BTreeMap::pop_last) else {
                return;
            };
            state.free(slab);
            self.freed.store(true, Ordering::Release);
        }
    }

    /// Bounds the bytes of all buffers.
    pub fn set_budget(&self, bytes: u64) {
        let mut state = self.state();
        state.budget = bytes;
        self.shrink(&mut state, bytes);
    }

    /// Whether buffers were freed since it was last asked.
    pub fn take_freed(&self) -> bool {
        self.freed.swap(false, Ordering::AcqRel)
    }

    /// To be called after a submission: what was pending is so no more. Returns what is to be called once the device
    /// has done it.
    pub fn submitted(&self) -> impl FnOnce() + Send + 'static {
        let next = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let done = self.done.clone();
        move || {
            done.fetch_max(next, Ordering::AcqRel);
        }
    }

    /// Those of the buffers.
    pub fn stats(&self) -> Stats {
        self.state().stats
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(pool: &Pool, size: u64) -> Slab {
        let (device, _queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        assert!(pool.reserve(size));
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        pool.adopt(Purpose::Storage, buffer)
    }

    fn take(pool: &Pool, size: u64, first: FirstWrite) -> Option<Slab> {
        pool.take(Purpose::Storage, size, first)
    }

    #[test]
    fn classes_hold_what_they_must_and_waste_little() {
        for bytes in (0..4096).chain([1 << 20, (1 << 20) + 1, (1 << 27) - 1, 1 << 28]) {
            let class = Pool::class(bytes, 1 << 40);
            assert!(class >= bytes.max(1) && class.is_multiple_of(BLOCK), "{bytes} in {class}");
            assert!(class <= 256.max(bytes + bytes / 8 + BLOCK), "{bytes} in {class}");
            assert_eq!(Pool::class(class, 1 << 40), class);
        }
        assert_eq!(Pool::class(1000, 1000), 1008, "a tensor as large as a buffer may be");
        assert_eq!(Pool::class(1040, 1050), 1040, "the class stays within the largest buffer");
    }

    #[test]
    fn a_buffer_is_written_only_by_who_comes_after_its_last_use() {
        let pool = Pool::default();
        let slab = create(&pool, 256);
        assert!(pool.is_done(&slab), "fresh");
        pool.used(&slab);
        pool.give_back(slab);
        assert!(take(&pool, 256, FirstWrite::Queued).is_none(), "pending");
        assert!(pool.take(Purpose::Readback, 256, FirstWrite::Recorded).is_none());
        assert!(take(&pool, 512, FirstWrite::Recorded).is_none());
        let done = pool.submitted();
        let slab = take(&pool, 256, FirstWrite::Queued).unwrap();
        assert!(!pool.is_done(&slab), "in flight");
        assert!(take(&pool, 256, FirstWrite::Queued).is_none(), "taken once");
        pool.give_back(slab);
        let other = create(&pool, 256);
        let id = other.id;
        pool.give_back(other);
        assert_eq!(take(&pool, 256, FirstWrite::Queued).unwrap().id, id, "the one that was never used");
        done();
        let slab = take(&pool, 256, FirstWrite::Queued).unwrap();
        assert!(pool.is_done(&slab));

        pool.used(&slab);
        let (first, second) = (pool.submitted(), pool.submitted());
        second();
        first();
        assert!(pool.is_done(&slab), "whatever is heard of first");
        pool.used(&slab);
        pool.give_back(slab);
        assert!(take(&pool, 256, FirstWrite::Recorded).is_some());
    }

    #[test]
    fn idle_buffers_are_bounded_and_every_byte_is_counted() {
        let pool = Pool::default();
        let slabs: Vec<_> = (0..6).map(|_| create(&pool, IDLE / 4)).collect();
        assert_eq!((pool.stats().in_use, pool.stats().reserved), (IDLE / 4 * 6, IDLE / 4 * 6));
        slabs.into_iter().for_each(|slab| pool.give_back(slab));
        assert_eq!((pool.stats().in_use, pool.stats().reserved), (0, IDLE));
        assert!(pool.take_freed() && !pool.take_freed());
        assert_eq!((0..6).filter_map(|_| take(&pool, IDLE / 4, FirstWrite::Recorded)).count(), 4);
        let stats = pool.stats();
        assert_eq!((stats.buffers_created, stats.buffers_reused, stats.high_water), (6, 4, IDLE / 4 * 6));
    }

    #[test]
    fn the_budget_costs_idle_buffers_first_and_then_refuses() {
        let pool = Pool::default();
        pool.set_budget(4096);
        let [a, b, c] = [1024, 1024, 2048].map(|size| create(&pool, size));
        pool.give_back(a);
        pool.give_back(c);
        let d = create(&pool, 1024);
        assert_eq!((pool.stats().in_use, pool.stats().reserved), (2048, 3072), "the largest idle one went");
        assert!(!pool.reserve(2049));
        assert!(pool.reserve(2048), "the other one goes too");
        pool.unreserve(2048);
        assert_eq!((pool.stats().in_use, pool.stats().reserved), (2048, 2048));
        pool.give_back(b);
        pool.give_back(d);
        pool.shrink_to(0);
        assert_eq!((pool.stats().in_use, pool.stats().reserved), (0, 0));
    }
}
