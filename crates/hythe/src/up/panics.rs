//! What a panic means: a defect that a single request shows costs that request; any other ends the process, since
//! a role that has lost one of its tasks would go on half alive. Containers are not concerned.

/// Makes panics outside of requests fatal.
pub fn install() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if !apiserver::is_answering() && !docker_api::is_answering() {
            std::process::abort();
        }
    }));
}
