//! Pages of their own beside `/metrics`, made when someone asks.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

/// A page in the making, in Prometheus' text format.
pub type Making = Pin<Box<dyn Future<Output = String> + Send>>;

type Make = Arc<dyn Fn() -> Making + Send + Sync>;

static PAGES: Mutex<Vec<(u64, &'static str, Make)>> = Mutex::new(Vec::new());
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A page is shown as long as this is held.
#[must_use = "the page goes with it"]
pub struct Served(u64);

impl Drop for Served {
    fn drop(&mut self) {
        PAGES.lock().retain(|(number, ..)| *number != self.0);
    }
}

/// Shows a page at `/metrics/NAME`; of two of a name the later.
pub fn serve(name: &'static str, make: impl Fn() -> Making + Send + Sync + 'static) -> Served {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    PAGES.lock().push((number, name, Arc::new(make)));
    Served(number)
}

/// The page of that name, if someone shows it.
pub fn page(name: &str) -> Option<Making> {
    let make = PAGES.lock().iter().rev().find(|(_, known, _)| *known == name).map(|(.., make)| make.clone());
    make.map(|make| make())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_shown_as_long_as_someone_shows_it() {
        assert!(page("some").is_none());
        let served = serve("some", || Box::pin(async { "x 1\n".to_owned() }));
        assert!(page("some").is_some() && page("other").is_none());
        drop(served);
        assert!(page("some").is_none());
    }
}
