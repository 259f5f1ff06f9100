//! Who gives memory. What serves (the API server, controllers, agents) makes and frees millions of small objects on
//! all cores: that is what jemalloc is made for, and it gives back what a burst left behind. A shim makes a few and then
//! sleeps, many times over: the C library's allocator has the smaller footprint.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ffi::{CStr, c_char, c_int, c_void},
    sync::atomic::{AtomicBool, Ordering},
};

use tikv_jemallocator::Jemalloc as Fast;

#[global_allocator]
static ALLOCATOR: ByRole = ByRole;

/// Decided before the first allocation and never changed, so that memory goes back where it came from.
static SMALL: AtomicBool = AtomicBool::new(false);

struct ByRole;

/// Gives back to the machine what is free: a burst leaves more behind than the next moments need.
pub fn give_back() {
    // `MALLCTL_ARENAS_ALL`, in jemalloc's own words: its macro is no constant here.
    const ALL: &CStr = c"arena.4096.purge";
    let none = std::ptr::null_mut::<c_void>;
    // SAFETY: the name is a C string, and this control neither reads nor writes a value.
    unsafe { mallctl(ALL.as_ptr(), none(), none().cast(), none(), 0) };
}

unsafe extern "C" {
    /// jemalloc's, of which the allocator's crate shows nothing.
    #[link_name = "_rjem_mallctl"]
    fn mallctl(name: *const c_char, old: *mut c_void, old_len: *mut usize, new: *mut c_void, new_len: usize) -> c_int;
}

/// Few arenas, since there are few cores where memory matters; pages that are free for a second go back.
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: Option<&'static c_char> = {
    const TEXT: &CStr = c"narenas:4,dirty_decay_ms:1000,muzzy_decay_ms:0";
    // SAFETY: the text is as long as the program.
    Some(unsafe { &*TEXT.as_ptr() })
};

#[used]
#[unsafe(link_section = ".init_array")]
static DECIDE: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = decide;

extern "C" fn decide(count: c_int, arguments: *const *const c_char, _environment: *const *const c_char) {
    if count < 2 {
        return;
    }
    // SAFETY: the C library hands `main`'s arguments to each constructor; there are `count` strings.
    let first = unsafe { CStr::from_ptr(*arguments.add(1)) };
    SMALL.store(first.to_bytes() == b"shim", Ordering::Relaxed);
}

// SAFETY: each call goes to one of two allocators, and always to the same one.
unsafe impl GlobalAlloc for ByRole {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { if SMALL.load(Ordering::Relaxed) { System.alloc(layout) } else { Fast.alloc(layout) } }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe {
            if SMALL.load(Ordering::Relaxed) { System.dealloc(pointer, layout) } else { Fast.dealloc(pointer, layout) }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { if SMALL.load(Ordering::Relaxed) { System.alloc_zeroed(layout) } else { Fast.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            if SMALL.load(Ordering::Relaxed) {
                System.realloc(pointer, layout, size)
            } else {
                Fast.realloc(pointer, layout, size)
            }
        }
    }
}
