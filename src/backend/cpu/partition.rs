//! Divides slices among the threads of the caller's rayon pool, where that pays.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::COMPACT;

thread_local! {
    /// Whether this thread works without helpers.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, keeping operations of the CPU path on the calling thread: for a program that has its own threads or processes
/// for the work.
pub fn on_this_thread<R>(work: impl FnOnce() -> R) -> R {
    /// Restores the previous value, whatever happens.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _restore = Restore(ALONE.replace(true));
    work()
}

/// The number of threads for this many bytes.
fn threads_for(bytes: usize) -> usize {
    if COMPACT || bytes < MIN_SHARED || ALONE.get() { 1 } else { rayon::current_num_threads() }
}

/// Maximum bytes of a slice that one thread takes at once: few enough to stay in a core's own cache.
const MAX_CHUNK: usize = 512 * 1024;

/// Bytes of a slice that are worth waking a thread for, which takes some 50 us.
const MIN_SHARED: usize = 1024 * 1024;

/// How often a caller that is done checks whether helpers have finished their last chunks, some 20 us, before it sleeps
/// until they have. Being woken takes longer: without this a clip of 1 Mi f32 takes a third longer.
const SPIN_ITERATIONS: u32 = 1000;

/// Chunks that a job of the pool takes, some 30 us in the caches and 200 us in memory: what another caller waits for.
const CHUNKS_PER_JOB: usize = 4;

/// Jobs that the caller keeps queued for each helper, so that a helper that is done finds another.
const QUEUED_PER_HELPER: usize = 2;

/// Bytes of a slice that does not stay in the caches.
const LAST_LEVEL_CACHE: usize = 16 * 1024 * 1024;

/// Applies `work` to an output, after copying an operand to it if there is one: block by block, so that the copy stays in a core's
/// L1 cache. `work` gets the offset of a block, and the block.
pub(super) fn copy_then_apply<T: Copy>(
    from: Option<&[T]>,
    to: &mut [T],
    work: &mut dyn FnMut(usize, &mut [T]),
) {
    let Some(from) = from else { return work(0, to) };
    let block = 32 * 1024 / size_of::<T>();
    for (n, (from, to)) in from.chunks(block).zip(to.chunks_mut(block)).enumerate() {
        to.copy_from_slice(from);
        work(n * block, to);
    }
}

/// How a slice is divided among threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partition {
    /// Elements of a chunk: whole words of a mask.
    pub chunk: usize,
    chunks: usize,
    bytes: usize,
    /// Threads that join the caller.
    helpers: usize,
}

impl Partition {
    /// For `len` elements of `size` bytes, on the pool that the caller runs in: that of [`rayon::ThreadPool::install`], or the
    /// global one. In a pool of one thread the caller works alone.
    pub(super) fn new(size: usize, len: usize) -> Self {
        let bytes = len * size;
        let threads = threads_for(bytes);
        let even = len.div_ceil(threads).next_multiple_of(64);
        let chunk = even.min(MAX_CHUNK / size).max(64);
        let chunks = len.div_ceil(chunk);
        Self { chunk, chunks, bytes, helpers: chunks.min(threads).saturating_sub(1) }
    }

    /// Threads that work on it.
    pub(super) fn threads(self) -> usize {
        self.helpers + 1
    }

    /// For `count` [pieces](Self::pieces) of several slices, of this many bytes in total.
    pub(super) fn of_list(bytes: usize, count: usize) -> Self {
        let threads = threads_for(bytes);
        Self { chunk: 0, chunks: count, bytes, helpers: count.min(threads).saturating_sub(1) }
    }

    /// The pieces of a slice that is one of several.
    pub(super) fn pieces(slice: &[u8]) -> impl Iterator<Item = &[u8]> {
        slice.chunks(MAX_CHUNK)
    }

    /// The same, mutable.
    pub(super) fn pieces_mut(slice: &mut [u8]) -> impl Iterator<Item = &mut [u8]> + Send {
        slice.chunks_mut(MAX_CHUNK)
    }

    /// Whether outputs exceed the caches. If so, it is faster to copy an input block by block and work on each block in
    /// place: memcpy writes lines of memory without reading them first (16 Mi f32 take 3.2 ms, and 4.0 ms element by
    /// element).
    pub(super) fn exceeds_cache(self) -> bool {
        self.bytes >= LAST_LEVEL_CACHE
    }

    /// Applies `work` to each chunk of an output with elements of `size` bytes. It gets the index of the chunk's first element, and
    /// the chunk.
    pub(super) fn for_each_chunk(
        self,
        output: &mut [u8],
        size: usize,
        work: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) {
        let mut chunks = output.chunks_mut(self.chunk * size).enumerate();
        self.for_each(&mut chunks, &|(n, chunk)| work(n * self.chunk, chunk));
    }

    /// Applies `work` to each chunk. The caller also works, from the start: rayon's own iterators leave all the work of a
    /// thread outside the pool to others, which have to be woken first.
    ///
    /// No caller waits for the slice of another. A caller outside of any pool gets helpers of the global pool only while no
    /// other has them: its last jobs would have to wait for theirs. Within a pool a caller takes back jobs that nobody has
    /// begun, but its thread may run jobs of others while it waits for the rest. So a job takes a few chunks and ends, and
    /// the caller keeps some queued.
    ///
    /// Chunks and work are behind references, so that this code is compiled only once per kind of chunk.
    pub(super) fn for_each<C: Send>(
        self,
        chunks: &mut (dyn Iterator<Item = C> + Send),
        work: &(dyn Fn(C) + Sync),
    ) {
        if COMPACT || self.helpers == 0 {
            return chunks.for_each(work);
        }
        let (chunks, taken) = (Mutex::new(chunks), AtomicUsize::new(0));
        let next = || {
            taken.fetch_add(1, Ordering::Relaxed);
            chunks.lock().unwrap_or_else(PoisonError::into_inner).next()
        };
        let jobs = Jobs::default();
        let help = || {
            jobs.begin();
            std::iter::from_fn(next).take(CHUNKS_PER_JOB).for_each(work);
            jobs.end();
        };
        rayon::in_place_scope(|scope| {
            loop {
                let left = self.chunks.saturating_sub(taken.load(Ordering::Relaxed) + 1);
                let count = left.div_ceil(CHUNKS_PER_JOB).min(QUEUED_PER_HELPER * self.helpers);
                jobs.queue(count, || scope.spawn(|_| help()));
                match next() {
                    Some(chunk) => work(chunk),
                    None => break,
                }
            }
            for _ in 0..SPIN_ITERATIONS {
                if jobs.running.load(Ordering::Acquire) == 0 {
                    break;
                }
                std::hint::spin_loop();
            }
        });
    }
}

/// The jobs that help a caller.
#[derive(Debug)]
struct Jobs {
    queued: AtomicUsize,
    running: AtomicUsize,
    /// The jobs of all callers outside of any pool, if this is one of them.
    shared: Option<&'static AtomicUsize>,
}

/// The jobs of callers outside of any pool, which the global pool runs.
static JOBS_FROM_OUTSIDE: AtomicUsize = AtomicUsize::new(0);

impl Default for Jobs {
    fn default() -> Self {
        let outside = rayon::current_thread_index().is_none();
        let (queued, running) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { queued, running, shared: outside.then_some(&JOBS_FROM_OUTSIDE) }
    }
}

impl Jobs {
    /// Queues jobs until `count` are queued, unless another caller has some.
    fn queue(&self, count: usize, spawn: impl Fn()) {
        let (queued, running) = (self.queued.load(Ordering::Relaxed), self.running.load(Ordering::Relaxed));
        if self.shared.is_some_and(|shared| shared.load(Ordering::Relaxed) > queued + running) {
            return;
        }
        for _ in queued..count {
            self.queued.fetch_add(1, Ordering::Relaxed);
            self.shared.map(|shared| shared.fetch_add(1, Ordering::Relaxed));
            spawn();
        }
    }

    fn begin(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.shared.map(|shared| shared.fetch_sub(1, Ordering::Relaxed));
        self.running.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::{Duration, Instant};

    use super::*;

    /// The threads that work on the chunks of a large slice in a pool of `n` threads.
    fn workers(n: usize) -> HashSet<String> {
        let name = |i| format!("caller's {i}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).thread_name(name).build().unwrap();
        let seen = Mutex::new(HashSet::new());
        pool.install(|| {
            let parts = Partition::new(1, 64 << 20);
            parts.for_each(&mut (0..128), &|_| {
                let name = std::thread::current().name().unwrap_or_default().to_owned();
                seen.lock().unwrap().insert(name);
            });
        });
        seen.into_inner().unwrap()
    }

    #[test]
    fn a_thread_that_is_to_work_alone_does() {
        let helpers = || [Partition::new(1, 64 << 20).helpers, Partition::of_list(64 << 20, 9).helpers];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| {
            assert_eq!(helpers(), [2; 2]);
            on_this_thread(|| {
                on_this_thread(|| assert_eq!(helpers(), [0; 2]));
                assert_eq!(helpers(), [0; 2]);
            });
            assert_eq!(helpers(), [2; 2]);
        });
    }

    #[test]
    fn the_callers_pool_is_respected() {
        assert_eq!(workers(1), HashSet::from(["caller's 0".to_owned()]));
        let two = workers(2);
        assert!(two.iter().all(|name| name.starts_with("caller's ")), "{two:?}");
    }

    /// Runs callers next to one whose slice does not end before they do.
    fn beside_an_endless_slice(spawn: impl Fn(&(dyn Fn() + Sync), &(dyn Fn() + Sync))) {
        let parts = Partition { chunk: 64, chunks: usize::MAX, bytes: 0, helpers: 2 };
        let (begun, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let end = Instant::now() + Duration::from_secs(60);
        let endless = || {
            let mut chunks = std::iter::from_fn(|| {
                (done.load(Ordering::SeqCst) < 20 && Instant::now() < end).then_some(())
            });
            parts.for_each(&mut chunks, &|()| {
                begun.fetch_add(1, Ordering::SeqCst);
            });
        };
        let small = || {
            while begun.load(Ordering::SeqCst) < 100 {
                std::thread::yield_now();
            }
            for _ in 0..20 {
                parts.for_each(&mut (0..8), &|_| {});
                done.fetch_add(1, Ordering::SeqCst);
            }
            assert!(Instant::now() < end, "it waited for the other one");
        };
        spawn(&endless, &small);
    }

    #[test]
    fn a_caller_does_not_wait_for_the_slice_of_another() {
        beside_an_endless_slice(|endless, small| {
            std::thread::scope(|scope| {
                scope.spawn(endless);
                small();
            });
        });
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        beside_an_endless_slice(|endless, small| {
            pool.scope(|scope| {
                scope.spawn(|_| endless());
                small();
            });
        });
    }

    #[test]
    fn small_slices_are_not_shared_and_chunks_cover_all() {
        for len in [0, 1, 63, MIN_SHARED - 1, MIN_SHARED, (40 << 20) + 5] {
            let parts = Partition::new(1, len);
            assert!(parts.chunk.is_multiple_of(64) && parts.chunk <= MAX_CHUNK);
            assert!(len >= MIN_SHARED || parts.helpers == 0);
        }
    }
}
