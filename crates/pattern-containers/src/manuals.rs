//! The manuals of all pattern containers, for the image's configuration.

use serving::Manual;

/// The admin port of every container unless told otherwise.
pub const ADMIN_PORT: u16 = 9901;

/// One a command. Whoever adds a command adds its manual here.
pub fn all() -> Vec<&'static Manual> {
    vec![&scatter::MANUAL]
}
