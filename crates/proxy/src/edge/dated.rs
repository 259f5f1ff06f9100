//! The `Date` of answers that bring none: whoever passes one on tells when it came (RFC 9110 section 6.6.1).

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    /// The second that was told last, and its text.
    static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// A time, in seconds since 1970, as the header has it.
pub(super) fn text(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Hands over the header's value for now. Most answers of a second share it.
pub(super) fn now<T>(told: impl FnOnce(&[u8]) -> T) -> T {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|last| {
        if last.0 != now || last.1.is_empty() {
            *last = (now, text(now));
        }
        told(last.1.as_bytes())
    })
}
