//! What a serving process does when it comes to rest: memory goes back to the machine.

use std::{
    convert::Infallible,
    ffi::{c_int, c_void},
    time::Duration,
};

use nix::{
    libc::{self, PF_W, PT_LOAD, dl_phdr_info},
    sys::resource::{UsageWho, getrusage},
};

use crate::allocator;

/// From the start to the first look: what starting needed and serving does not is a good part of the program.
const FIRST_LOOK: Duration = Duration::from_secs(4);
/// Between looks.
const LOOK: Duration = Duration::from_secs(30);
/// A process that computed for more than this part of the time between two looks is at work.
const AT_WORK: f64 = 0.02;

/// Looks every half minute whether the process is at rest, and then gives back what it does not use. Never ends.
pub async fn run() -> Infallible {
    let (mut pause, mut busy) = (FIRST_LOOK, true);
    loop {
        let before = computed();
        tokio::time::sleep(pause).await;
        let was_busy = std::mem::replace(&mut busy, computed().saturating_sub(before) > pause.mul_f64(AT_WORK));
        if !busy {
            if was_busy {
                allocator::give_back();
            }
            forget_program();
        }
        pause = LOOK;
    }
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

/// Unmaps the pages of the program itself that are as they lie on disk. With each page that is used the kernel maps
/// the fifteen around it, until most of a large program counts as resident; what is used again comes back from the page
/// cache without reading.
fn forget_program() {
    // SAFETY: the callback has the signature that is asked for and takes no data.
    unsafe { libc::dl_iterate_phdr(Some(forget_segments), std::ptr::null_mut()) };
}

/// The first object is the program; the others are left alone.
unsafe extern "C" fn forget_segments(program: *mut dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: the C library lends a description of a loaded object, with its program headers, for the time of the call.
    let (base, segments) = unsafe {
        let program = &*program;
        (program.dlpi_addr, std::slice::from_raw_parts(program.dlpi_phdr, usize::from(program.dlpi_phnum)))
    };
    let page = page_size();
    for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD && segment.p_flags & PF_W == 0) {
        let begin = (base + segment.p_vaddr) & !(page - 1);
        // Neighbouring segments may share a page, of which the other may have changed its part.
        let end = (base + segment.p_vaddr + segment.p_memsz) & !(page - 1);
        if end > begin {
            // SAFETY: these pages are mapped privately from the program's file and can't be written to: dropped ones
            // come back with the same bytes.
            unsafe { libc::madvise(begin as *mut c_void, (end - begin) as usize, libc::MADV_DONTNEED) };
        }
    }
    1
}

fn page_size() -> u64 {
    // SAFETY: asks for a constant.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of the program's own file that count as this process's memory.
    fn resident_program() -> u64 {
        let program = std::env::current_exe().unwrap();
        let (mut total, mut inside) = (0, false);
        for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            if line.split_whitespace().next().is_some_and(|first| first.contains('-')) {
                inside = line.ends_with(program.to_str().unwrap());
            } else if let (true, Some(size)) = (inside, line.strip_prefix("Rss:")) {
                total += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        total
    }

    #[test]
    fn pages_of_the_program_go_and_come_back() {
        let before = resident_program();
        forget_program();
        let after = resident_program();
        assert!(after < before / 2, "{before} KiB before, {after} KiB after");
        assert!(resident_program() > 0, "what runs is there again");
    }
}
