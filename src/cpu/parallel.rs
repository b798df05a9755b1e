//! Slices on all cores where that pays.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Bytes of a slice that one thread takes at once at the most: few enough to stay in a core's own cache.
const CHUNK: usize = 512 * 1024;

/// Bytes of a slice that two threads do no faster than one.
const SMALL: usize = 128 * 1024;

/// Bytes of a slice that are worth the waking of a thread, which takes some 50 us.
const LARGE: usize = 2 * 1024 * 1024;

/// Bytes of a slice that does not stay in the caches.
const FAR: usize = 16 * 1024 * 1024;

/// How long after its last work a thread is still awake.
const AWAKE: Duration = Duration::from_micros(10);

/// How many times in a row helpers may come too late, the first of them because they slept. After that the system has
/// put them on the caller's own core, as virtual machines do.
const LATE: u64 = 3;

/// How many times the caller then works alone.
const ALONE: u64 = 100;

/// How often the caller looks whether its helpers are done, tens of microseconds, before it sleeps until they are.
const PATIENCE: u32 = 1000;

/// The threads that join the calling one. It begins at once, and waits for them awake: so 256 KiB are done in two thirds
/// of the time of one thread, where rayon's own iterators, which leave all the work to other threads, take longer.
static HELPERS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let helpers = rayon::current_num_threads().checked_sub(1).filter(|&n| n > 0)?;
    let name = |i| format!("wgclip {i}");
    ThreadPoolBuilder::new().num_threads(helpers).thread_name(name).build().ok()
});

/// Copies blocks that stay in a core's first cache, and does `work` to each: its place, and the copy.
pub fn copy_by_blocks<T: Copy>(from: &[T], to: &mut [T], mut work: impl FnMut(usize, &mut [T])) {
    let block = 32 * 1024 / size_of::<T>();
    for (n, (from, to)) in from.chunks(block).zip(to.chunks_mut(block)).enumerate() {
        to.copy_from_slice(from);
        work(n * block, to);
    }
}

/// How a slice is dealt out.
#[derive(Debug, Clone, Copy)]
pub struct Deal {
    /// Elements of a chunk: whole words of a mask.
    pub chunk: usize,
    bytes: usize,
    helpers: usize,
}

impl Deal {
    /// For `len` elements of `T`.
    pub fn new<T>(len: usize) -> Self {
        let bytes = len * size_of::<T>();
        let threads = rayon::current_num_threads();
        let even = len.div_ceil(threads).next_multiple_of(64);
        let chunk = even.min(CHUNK / size_of::<T>()).max(64);
        let helpers = match bytes {
            ..SMALL => 0,
            _ => len.div_ceil(chunk).min(threads).saturating_sub(1),
        };
        Self { chunk, bytes, helpers }
    }

    /// Whether results of `T` lie beyond the caches. There they are best copied from an input block by block, and each
    /// block worked on where it is: memcpy writes lines of memory without reading them first (16 Mi f32 take 3.2 ms,
    /// and 4.0 ms element by element).
    pub fn is_far(self) -> bool {
        self.bytes >= FAR
    }

    /// Does `work` to each chunk.
    pub fn each<C: Send>(self, chunks: impl Iterator<Item = C> + Send, work: impl Fn(C) + Sync) {
        if self.helpers == 0 {
            return chunks.for_each(work);
        }
        static AWAKE_UNTIL: AtomicU64 = AtomicU64::new(0);
        // Counts up how often helpers came too late, and from LATE on the times to work alone.
        static TOO_LATE: AtomicU64 = AtomicU64::new(0);
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        let now = || BEGINNING.elapsed().as_nanos() as u64;
        // What is not worth the waking is shared in a tight loop only: its second round wakes them for all that follow.
        let late = TOO_LATE.load(Ordering::Relaxed);
        let pays = self.bytes >= LARGE || (now() < AWAKE_UNTIL.load(Ordering::Relaxed) && late < LATE);
        let late = match HELPERS.as_ref().filter(|_| pays) {
            Some(pool) => match self.share(pool, chunks, work) {
                true => 0,
                false => late + 1,
            },
            None => {
                chunks.for_each(work);
                if late < LATE { late } else { (late + 1) % (LATE + ALONE) }
            }
        };
        TOO_LATE.store(late, Ordering::Relaxed);
        AWAKE_UNTIL.store(now() + AWAKE.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Whether anybody helped.
    fn share<C: Send>(
        self,
        pool: &ThreadPool,
        chunks: impl Iterator<Item = C> + Send,
        work: impl Fn(C) + Sync,
    ) -> bool {
        let chunks = Mutex::new(chunks);
        let next = || chunks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let drain = || std::iter::from_fn(next).map(&work).count();
        let helped = AtomicUsize::new(0);
        let busy = AtomicUsize::new(self.helpers);
        pool.in_place_scope(|scope| {
            for _ in 0..self.helpers {
                scope.spawn(|_| {
                    helped.fetch_add(drain(), Ordering::Relaxed);
                    busy.fetch_sub(1, Ordering::Release);
                });
            }
            drain();
            for _ in 0..PATIENCE {
                if busy.load(Ordering::Acquire) == 0 {
                    break;
                }
                std::hint::spin_loop();
            }
        });
        helped.into_inner() > 0
    }
}
