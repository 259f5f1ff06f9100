//! Memory that only the start has needed is given back.
//!
//! A program's text is mapped from its file, and what was run or read of it counts as resident, with its surroundings: of a
//! proxy that idles, most is code that has read flags and files and will not run again. Letting go of it costs nothing
//! but a page fault where it is used after all: the pages stay in the system's cache.

use std::ffi::{c_int, c_void};

use nix::libc;

/// Lets go of read-only pages of this program, and of free heap.
pub(crate) fn give_back() {
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
