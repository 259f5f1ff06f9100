//! What a serving process does when it comes to rest: memory goes back to the machine.

use std::{convert::Infallible, time::Duration};

/// From the start to the first look: what starting needed and serving does not is a good part of the program.
const FIRST_LOOK: Duration = Duration::from_secs(4);
/// Between looks.
const LOOK: Duration = Duration::from_secs(30);

/// Looks every half minute whether the process is at rest, and then gives back what it does not use: what a burst left
/// behind, and what has aged since (kept changes, tokens, the dead of a Job). Never ends.
pub async fn run() -> Infallible {
    let mut pause = FIRST_LOOK;
    loop {
        if !resident::is_at_work(pause).await {
            resident::give_back();
        }
        pause = LOOK;
    }
}
