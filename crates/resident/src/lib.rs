//! Memory that only the start has needed, or the last burst of work, goes back to the machine.
//!
//! A program's text is mapped from its file, and what was run or read of it counts as resident, with its surroundings:
//! of a program that idles, most is code that has read flags and files and will not run again. Letting go of it costs
//! nothing but a page fault where it is used after all: the pages stay in the system's cache.

use std::{
    ffi::{c_int, c_void},
    sync::OnceLock,
    time::Duration,
};

use nix::{
    libc,
    sys::resource::{UsageWho, getrusage},
};

/// A process that computed for more than this part of a time was at work in it.
const AT_WORK: f64 = 0.02;
/// What an x86-64 or an arm64 machine maps at least; a segment's ends are rounded inwards to it.
const PAGE: usize = 4096;

static ALLOCATOR: OnceLock<fn()> = OnceLock::new();

/// Names what gives free heap back where the program has an allocator of its own. The first one that is named counts.
pub fn also_gives_back(allocator: fn()) {
    let _ = ALLOCATOR.set(allocator);
}

/// Whether this process computes much, by a look at so much time of it.
pub async fn is_at_work(look: Duration) -> bool {
    let before = computed();
    tokio::time::sleep(look).await;
    computed().saturating_sub(before) > look.mul_f64(AT_WORK)
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

/// Lets go of free heap, and of the program's pages.
pub fn give_back() {
    if let Some(allocator) = ALLOCATOR.get() {
        allocator();
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
    // With each page of the program that is used the kernel maps the fifteen around it, until most of a large program
    // counts as resident.
    // SAFETY: the callback has the signature that is asked for, and uses its arguments only while it runs.
    unsafe { libc::dl_iterate_phdr(Some(of_program), std::ptr::null_mut()) };
}

/// Called for the program itself first; returns non-zero so that it is not called for what else is loaded.
unsafe extern "C" fn of_program(info: *mut libc::dl_phdr_info, _: libc::size_t, _: *mut c_void) -> c_int {
    // SAFETY: `dl_iterate_phdr` hands over a valid description, which lives while the program does.
    let info = unsafe { &*info };
    // SAFETY: so many headers are there.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let begin = info.dlpi_addr as usize + header.p_vaddr as usize;
        // Neighbouring segments may share a page, of which the other may have changed its part.
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
    #[test]
    fn the_program_goes_on_after_it_has_let_go_of_its_text() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap().to_owned();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = resident();
        super::give_back();
        let after = resident();
        assert!(after < before, "{before} kB before, {after} kB after");
    }
}
