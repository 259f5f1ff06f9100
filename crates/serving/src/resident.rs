//! Memory that only the start has needed, or the last burst of work, is given back.
//!
//! A program's text is mapped from its file, and what was run or read of it counts as resident, with its surroundings: of a
//! proxy that idles, most is code that has read flags and files and will not run again. Letting go of it costs nothing
//! but a page fault where it is used after all: the pages stay in the system's cache.

use std::{
    ffi::{c_int, c_void},
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::FutureExt;
use nix::{
    libc,
    sys::resource::{UsageWho, getrusage},
};
use tokio::sync::Notify;

/// From work that has come to a look whether it is over.
const LOOK: Duration = Duration::from_secs(2);
/// Between looks at most, where work comes again and again.
const LONGEST_LOOK: Duration = Duration::from_secs(64);
/// A process that computed for more than this part of the time between two looks is at work.
const AT_WORK: f64 = 0.02;

static ALLOCATOR: OnceLock<fn()> = OnceLock::new();

/// Names what gives free heap back where the program has an allocator of its own. The first one that is named counts.
pub fn also_gives_back(allocator: fn()) {
    let _ = ALLOCATOR.set(allocator);
}

/// Told of work that comes, so that an idle process needs no clock to know that it is idle.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Notify>);

impl Activity {
    /// Work has come: a connection, say.
    pub fn note(&self) {
        self.0.notify_one();
    }

    /// Gives memory back each time that work is over, the start's first. Sleeps until work comes. Never ends.
    pub(crate) async fn follow(self) {
        let mut pause = LOOK;
        loop {
            while is_at_work(pause).await {}
            // What came meanwhile is over, too.
            let _ = self.0.notified().now_or_never();
            give_back();
            let again = tokio::time::timeout(pause, self.0.notified()).await.is_ok();
            pause = if again { (pause * 2).min(LONGEST_LOOK) } else { LOOK };
            if !again {
                self.0.notified().await;
            }
        }
    }
}

/// Whether this process computes much, by a look at so much time of it.
async fn is_at_work(pause: Duration) -> bool {
    let before = computed();
    tokio::time::sleep(pause).await;
    computed().saturating_sub(before) > pause.mul_f64(AT_WORK)
}

/// Processor time of this process so far, its own and the kernel's for it.
fn computed() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    [usage.user_time(), usage.system_time()]
        .map(|time| {
            Duration::from_secs(time.tv_sec().unsigned_abs()) + Duration::from_micros(time.tv_usec().unsigned_abs())
        })
        .iter()
        .sum()
}

/// Lets go of read-only pages of this program, and of free heap.
pub(crate) fn give_back() {
    if let Some(allocator) = ALLOCATOR.get() {
        allocator();
    }
    // SAFETY: the callback has the signature that is asked for, and uses its arguments only while it runs.
    unsafe { libc::dl_iterate_phdr(Some(of_program), std::ptr::null_mut()) };
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Called for the program itself first; returns non-zero so that it is not called for what else is loaded.
unsafe extern "C" fn of_program(info: *mut libc::dl_phdr_info, _: libc::size_t, _: *mut c_void) -> c_int {
    const PAGE: usize = 4096;
    // SAFETY: `dl_iterate_phdr` hands over a valid description, which lives while the program does.
    let info = unsafe { &*info };
    // SAFETY: so many headers are there.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let begin = info.dlpi_addr as usize + header.p_vaddr as usize;
        let end = (begin + header.p_memsz as usize) & !(PAGE - 1);
        let begin = begin.next_multiple_of(PAGE);
        if begin < end {
            // SAFETY: these whole pages belong to a segment that nobody writes, backed by the program's file: what is
            // let go of is read again from there.
            unsafe { libc::madvise(begin as *mut c_void, end - begin, libc::MADV_DONTNEED) };
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::{Duration, Instant},
    };

    use super::Activity;

    #[tokio::test]
    async fn memory_is_given_back_each_time_that_work_is_over() {
        static GIVEN: AtomicUsize = AtomicUsize::new(0);
        super::also_gives_back(|| {
            GIVEN.fetch_add(1, Ordering::SeqCst);
        });
        let activity = Activity::default();
        tokio::spawn(activity.clone().follow());
        for times in 1..=2 {
            let begun = Instant::now();
            while GIVEN.load(Ordering::SeqCst) < times {
                assert!(begun.elapsed() < Duration::from_secs(120), "it rests, and nothing is given back");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            activity.note();
        }
    }

    #[test]
    fn the_program_goes_on_after_it_has_let_go_of_its_text() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap().to_owned();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = resident();
        super::give_back();
        assert!(resident() < before, "{before} kB before");
    }
}
