//! The manuals of all pattern containers, for the image's configuration.

use serving::Manual;

/// The admin port of every container unless told otherwise.
pub const ADMIN_PORT: u16 = 9901;

/// One a command. Whoever adds a command adds its manual here.
pub fn all() -> Vec<&'static Manual> {
    vec![]
}

/// Whether all containers that read a variable have the same default for it.
pub fn has_one_default(name: &str) -> bool {
    let mut defaults: Vec<&str> = Vec::new();
    for manual in all() {
        for variable in manual.all_variables().filter(|variable| variable.name == name) {
            if !defaults.contains(&variable.default) {
                defaults.push(variable.default);
            }
        }
    }
    defaults.len() <= 1
}
