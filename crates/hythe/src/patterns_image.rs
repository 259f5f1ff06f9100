//! The image of the pattern containers, which comes with this program.

use std::{io, path::Path, sync::Arc};

use engine::content::{BuiltIn, Content, Reference};
use pattern_containers::image::{self, Binary, Layer};

static EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/patterns.zst"));

struct PatternsImage;

impl BuiltIn for PatternsImage {
    fn is(&self, reference: &Reference) -> bool {
        let ours = |tag: &str| tag == image::VERSION || tag == "latest";
        reference.name() == image::REPOSITORY
            && reference.digest.is_none()
            && reference.tag.as_deref().is_some_and(ours)
    }

    fn write(&self, archive: &Path) -> io::Result<()> {
        image::write(&Binary::of(EMBEDDED), Layer::Plain, archive)
    }
}

/// Lets a pull of its name be answered from this program.
pub fn provide(content: &Content) {
    content.build_in(Arc::new(PatternsImage));
}

/// Writes it as an archive that every engine takes. The running program, where it has to stand in, is too large to be
/// compressed in passing.
pub fn write(archive: &Path) -> io::Result<()> {
    let layer = if EMBEDDED.is_empty() { Layer::Plain } else { Layer::Compressed };
    image::write(&Binary::of(EMBEDDED), layer, archive)
}
