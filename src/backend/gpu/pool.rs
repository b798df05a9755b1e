//! A pool of reused buffers: wgpu fills a fresh one with zeros, which costs as much as a kernel.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::generation::Generations;
use crate::Stats;
use crate::wgsl::BLOCK_BYTES;

/// Bytes of idle buffers that are kept. Beyond that, returned buffers are freed.
const IDLE: u64 = 1 << 30;

/// What a buffer is for. Each purpose has its own usages, so they are not interchangeable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Read and written by kernels, copied from and to.
    Storage,
    /// Copied to, and mapped by the host.
    Readback,
}

/// Who writes the buffer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstWrite {
    /// A command that is recorded after those pending, so any idle buffer will do.
    Recorded,
    /// The queue, *before* the commands that it was not yet given, which must not use the buffer. Or the host, at once,
    /// if the device [is done](Pool::is_done) with it: those are preferred.
    Queued,
}

/// A buffer of the pool.
#[derive(Debug)]
pub(super) struct PooledBuffer {
    pub buffer: wgpu::Buffer,
    /// Never shared with another buffer of the pool, past or present.
    pub id: u64,
    pub purpose: Purpose,
    /// The generation of the last command that uses it.
    last_use: AtomicU64,
}

/// The buffers of a device: it counts all, and keeps the idle ones.
#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    generations: Generations,
    /// Whether buffers were freed that bind groups may still hold.
    freed: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// By purpose and size.
    idle: HashMap<(Purpose, u64), Idle>,
    stats: Stats,
    budget: u64,
    next_id: u64,
}

/// Idle buffers of one size. No lookup needs a scan.
#[derive(Debug, Default)]
struct Idle {
    by_id: BTreeMap<u64, PooledBuffer>,
    /// Last use and id.
    by_use: BTreeSet<(u64, u64)>,
}

impl Idle {
    fn insert(&mut self, pooled: PooledBuffer) {
        self.by_use.insert((pooled.last_use(), pooled.id));
        self.by_id.insert(pooled.id, pooled);
    }

    fn remove(&mut self, id: u64) -> Option<PooledBuffer> {
        let pooled = self.by_id.remove(&id)?;
        self.by_use.remove(&(pooled.last_use(), id));
        Some(pooled)
    }

    /// The one created first, so that a loop gets the same ones each time, and with them its bind groups.
    fn first_created(&self) -> Option<u64> {
        self.by_id.keys().next().copied()
    }

    /// The one unused for the longest time, and its last use.
    fn least_recent(&self) -> Option<(u64, u64)> {
        self.by_use.first().copied()
    }
}

impl PooledBuffer {
    fn last_use(&self) -> u64 {
        self.last_use.load(Ordering::Acquire)
    }
}

impl State {
    fn idle_bytes(&self) -> u64 {
        self.stats.reserved_bytes - self.stats.in_use_bytes
    }
}

impl Default for Pool {
    fn default() -> Self {
        let state = State { idle: HashMap::new(), stats: Stats::default(), budget: u64::MAX, next_id: 0 };
        Self { state: Mutex::new(state), generations: Generations::new(), freed: AtomicBool::new(false) }
    }
}

impl Pool {
    /// The size of the buffer for `bytes`: whole blocks, in classes that waste at most an eighth. Never zero, since
    /// wgpu cannot bind an empty buffer.
    pub(super) fn class(bytes: u64, max_buffer: u64) -> u64 {
        let bytes = bytes.max(256);
        let step = (1 << bytes.ilog2()) / 8;
        bytes
            .next_multiple_of(step)
            .min(max_buffer / BLOCK_BYTES * BLOCK_BYTES)
            .max(bytes.next_multiple_of(BLOCK_BYTES))
    }

    /// An idle buffer of exactly `size` bytes.
    pub(super) fn take(&self, purpose: Purpose, size: u64, first: FirstWrite) -> Option<PooledBuffer> {
        let mut state = self.state();
        let idle = state.idle.get_mut(&(purpose, size))?;
        let id = match first {
            FirstWrite::Recorded => idle.first_created()?,
            FirstWrite::Queued => {
                let (last_use, id) = idle.least_recent()?;
                self.generations.is_submitted(last_use).then_some(id)?
            }
        };
        let pooled = idle.remove(id)?;
        state.stats.in_use_bytes += size;
        state.stats.buffers_reused += 1;
        Some(pooled)
    }

    /// Makes room within the budget for `size` bytes that are about to be created, by freeing idle buffers. Returns
    /// whether there is room.
    pub(super) fn reserve(&self, size: u64) -> bool {
        let mut state = self.state();
        if state.stats.in_use_bytes.saturating_add(size) > state.budget {
            return false;
        }
        let room = state.budget - size;
        let freed = self.shrink(&mut state, room);
        state.stats.in_use_bytes += size;
        state.stats.reserved_bytes += size;
        state.stats.peak_reserved_bytes = state.stats.peak_reserved_bytes.max(state.stats.reserved_bytes);
        drop(state);
        drop(freed);
        true
    }

    /// Adopts a buffer for which room was reserved.
    pub(super) fn adopt(&self, purpose: Purpose, buffer: wgpu::Buffer) -> PooledBuffer {
        let mut state = self.state();
        state.stats.buffers_created += 1;
        state.next_id += 1;
        PooledBuffer { buffer, id: state.next_id, purpose, last_use: AtomicU64::new(0) }
    }

    /// Releases reserved room.
    pub(super) fn unreserve(&self, size: u64) {
        let mut state = self.state();
        state.stats.in_use_bytes -= size;
        state.stats.reserved_bytes -= size;
    }

    /// Notes that a command uses a buffer, one that is pending or will be before the next command buffer.
    pub(super) fn used(&self, pooled: &PooledBuffer) {
        pooled.last_use.store(self.generations.pending(), Ordering::Release);
    }

    /// Whether the device is done with a buffer.
    pub(super) fn is_done(&self, pooled: &PooledBuffer) -> bool {
        self.generations.is_done(pooled.last_use())
    }

    /// Takes back a buffer that only pending or submitted commands use.
    pub(super) fn give_back(&self, pooled: PooledBuffer) {
        let size = pooled.buffer.size();
        let mut state = self.state();
        state.stats.in_use_bytes -= size;
        if state.idle_bytes() <= IDLE && state.stats.reserved_bytes <= state.budget {
            state.idle.entry((pooled.purpose, size)).or_default().insert(pooled);
            return;
        }
        state.stats.reserved_bytes -= size;
        self.freed.store(true, Ordering::Release);
        // wgpu may run callbacks when a buffer is dropped, so this is done without the lock.
        drop(state);
        drop(pooled);
    }

    /// Frees a buffer that cannot be used again.
    pub(super) fn discard(&self, pooled: PooledBuffer) {
        let size = pooled.buffer.size();
        let mut state = self.state();
        state.stats.in_use_bytes -= size;
        state.stats.reserved_bytes -= size;
        self.freed.store(true, Ordering::Release);
        drop(state);
        drop(pooled);
    }

    /// Frees idle buffers until no more than `bytes` are reserved, or none is idle.
    pub(super) fn shrink_to(&self, bytes: u64) {
        let freed = self.shrink(&mut self.state(), bytes);
        drop(freed);
    }

    /// Returns the freed buffers, to be dropped without the lock.
    #[must_use]
    fn shrink(&self, state: &mut State, bytes: u64) -> Vec<PooledBuffer> {
        let mut freed = Vec::new();
        while state.stats.reserved_bytes > bytes {
            // The largest first, so that the fewest have to be created again.
            let largest = state.idle.iter().filter(|(_, idle)| !idle.by_id.is_empty()).map(|(&key, _)| key);
            let Some(largest) = largest.max_by_key(|(_, size)| *size) else { break };
            let Some(idle) = state.idle.get_mut(&largest) else { break };
            let Some(pooled) = idle.by_id.keys().next_back().copied().and_then(|id| idle.remove(id)) else {
                break;
            };
            state.stats.reserved_bytes -= pooled.buffer.size();
            freed.push(pooled);
            self.freed.store(true, Ordering::Release);
        }
        freed
    }

    /// Limits the bytes of all buffers.
    pub(super) fn set_budget(&self, bytes: u64) {
        let mut state = self.state();
        state.budget = bytes;
        let freed = self.shrink(&mut state, bytes);
        drop(state);
        drop(freed);
    }

    /// Whether buffers were freed since the last call.
    pub(super) fn take_freed(&self) -> bool {
        self.freed.swap(false, Ordering::AcqRel)
    }

    /// The generations of pending, submitted and completed work.
    pub(super) fn generations(&self) -> &Generations {
        &self.generations
    }

    /// Counts of the buffers.
    pub(super) fn stats(&self) -> Stats {
        self.state().stats
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(pool: &Pool, size: u64) -> PooledBuffer {
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

    fn take(pool: &Pool, size: u64, first: FirstWrite) -> Option<PooledBuffer> {
        pool.take(Purpose::Storage, size, first)
    }

    #[test]
    fn classes_hold_what_they_must_and_waste_little() {
        for bytes in (0..4096).chain([1 << 20, (1 << 20) + 1, (1 << 27) - 1, 1 << 28]) {
            let class = Pool::class(bytes, 1 << 40);
            assert!(class >= bytes.max(1) && class.is_multiple_of(BLOCK_BYTES), "{bytes} in {class}");
            assert!(class <= 256.max(bytes + bytes / 8 + BLOCK_BYTES), "{bytes} in {class}");
            assert_eq!(Pool::class(class, 1 << 40), class);
        }
        assert_eq!(Pool::class(1000, 1000), 1008, "a tensor as large as a buffer may be");
        assert_eq!(Pool::class(1040, 1050), 1040, "the class stays within the largest buffer");
    }

    #[test]
    fn a_buffer_is_written_only_by_who_comes_after_its_last_use() {
        let pool = Pool::default();
        let pooled = create(&pool, 256);
        assert!(pool.is_done(&pooled), "fresh");
        pool.used(&pooled);
        pool.give_back(pooled);
        assert!(take(&pool, 256, FirstWrite::Queued).is_none(), "pending");
        assert!(pool.take(Purpose::Readback, 256, FirstWrite::Recorded).is_none());
        assert!(take(&pool, 512, FirstWrite::Recorded).is_none());
        let generation = pool.generations().end();
        assert!(take(&pool, 256, FirstWrite::Queued).is_none(), "recorded, but not submitted");
        pool.generations().all_submitted();
        let done = pool.generations().when_done(generation);
        let pooled = take(&pool, 256, FirstWrite::Queued).unwrap();
        assert!(!pool.is_done(&pooled), "in flight");
        assert!(take(&pool, 256, FirstWrite::Queued).is_none(), "taken once");
        pool.give_back(pooled);
        let other = create(&pool, 256);
        let id = other.id;
        pool.give_back(other);
        assert_eq!(take(&pool, 256, FirstWrite::Queued).unwrap().id, id, "the one that was never used");
        done();
        let pooled = take(&pool, 256, FirstWrite::Queued).unwrap();
        assert!(pool.is_done(&pooled));

        pool.used(&pooled);
        let [first, second] = [(); 2].map(|()| pool.generations().when_done(pool.generations().end()));
        pool.generations().all_submitted();
        second();
        first();
        assert!(pool.is_done(&pooled), "whatever is heard of first");
        pool.used(&pooled);
        pool.give_back(pooled);
        assert!(take(&pool, 256, FirstWrite::Recorded).is_some());
    }

    #[test]
    fn idle_buffers_are_bounded_and_every_byte_is_counted() {
        let pool = Pool::default();
        let pooleds: Vec<_> = (0..6).map(|_| create(&pool, IDLE / 4)).collect();
        assert_eq!((pool.stats().in_use_bytes, pool.stats().reserved_bytes), (IDLE / 4 * 6, IDLE / 4 * 6));
        pooleds.into_iter().for_each(|pooled| pool.give_back(pooled));
        assert_eq!((pool.stats().in_use_bytes, pool.stats().reserved_bytes), (0, IDLE));
        assert!(pool.take_freed() && !pool.take_freed());
        assert_eq!((0..6).filter_map(|_| take(&pool, IDLE / 4, FirstWrite::Recorded)).count(), 4);
        let stats = pool.stats();
        assert_eq!(
            (stats.buffers_created, stats.buffers_reused, stats.peak_reserved_bytes),
            (6, 4, IDLE / 4 * 6)
        );
    }

    #[test]
    fn the_budget_costs_idle_buffers_first_and_then_refuses() {
        let pool = Pool::default();
        pool.set_budget(4096);
        let [a, b, c] = [1024, 1024, 2048].map(|size| create(&pool, size));
        pool.give_back(a);
        pool.give_back(c);
        let d = create(&pool, 1024);
        assert_eq!(
            (pool.stats().in_use_bytes, pool.stats().reserved_bytes),
            (2048, 3072),
            "the largest idle one went"
        );
        assert!(!pool.reserve(2049));
        assert!(pool.reserve(2048), "the other one goes too");
        pool.unreserve(2048);
        assert_eq!((pool.stats().in_use_bytes, pool.stats().reserved_bytes), (2048, 2048));
        pool.give_back(b);
        pool.give_back(d);
        pool.shrink_to(0);
        assert_eq!((pool.stats().in_use_bytes, pool.stats().reserved_bytes), (0, 0));
    }
}
