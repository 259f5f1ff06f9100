//! What the catalogue's pure functions do, as a user of the API would notice.

mod apply_fields;
mod apply_random;
mod apply_server_side;
mod apply_update;
mod documentation;
mod patch_json;
mod patch_merge;
mod patch_strategic;
mod quantity;
mod selector_field;
mod selector_label;
mod strategy;
mod table;
mod warnings;
