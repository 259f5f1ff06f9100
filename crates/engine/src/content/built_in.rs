//! Images that come with the program: a pull of such a name is answered from here, without any registry.

use std::{io, path::Path, sync::Arc};

use super::{Content, ContentError, Image, Reference};

/// An image that somebody in this process can make.
pub trait BuiltIn: Send + Sync {
    /// Whether it goes by that name.
    fn is(&self, reference: &Reference) -> bool;

    /// Writes it as an archive that [`Content::import`] takes. It blocks.
    ///
    /// # Errors
    /// The disk's.
    fn write(&self, archive: &Path) -> io::Result<()>;
}

impl Content {
    /// Answers pulls of an image's names with the image. Nothing is made before the first pull; later calls are ignored.
    pub fn build_in(&self, image: Arc<dyn BuiltIn>) {
        let _ = self.inner.built_in.set(image);
    }

    /// The built-in image of that name, brought into the store.
    pub(super) async fn pull_built_in(&self, reference: &Reference) -> Option<Result<Image, ContentError>> {
        let image = self.inner.built_in.get().filter(|image| image.is(reference))?.clone();
        let name = reference.to_string();
        Some(
            self.blocking(move |content| {
                let directory = content.path("ingest");
                let fail = |e| ContentError::io("write", &directory, e);
                let archive = tempfile::Builder::new().prefix("built-in-").tempfile_in(&directory).map_err(fail)?;
                image.write(archive.path()).map_err(fail)?;
                let images = content.import(archive.path(), Some(&name))?;
                images.into_iter().next().ok_or(ContentError::NotFound(name))
            })
            .await,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::PullOptions;

    struct OneFile;

    impl BuiltIn for OneFile {
        fn is(&self, reference: &Reference) -> bool {
            reference.name() == "built.in/one"
        }

        fn write(&self, archive: &Path) -> io::Result<()> {
            let mut tar = tar::Builder::new(std::fs::File::create(archive)?);
            let mut header = tar::Header::new_gnu();
            header.set_size(5);
            header.set_mode(0o755);
            tar.append_data(&mut header, "file", &b"hello"[..])?;
            tar.into_inner().map(drop)
        }
    }

    #[tokio::test]
    async fn a_pull_of_a_built_in_name_needs_no_registry() {
        let directory = tempfile::tempdir().unwrap();
        let content = Content::open(directory.path()).unwrap();
        content.build_in(Arc::new(OneFile));
        assert!(content.images().unwrap().is_empty(), "nothing is made before somebody asks");
        let image = content.pull("built.in/one:v1", &PullOptions::default()).await.unwrap();
        assert_eq!(image.tags, ["built.in/one:v1"]);
        let again = content.pull("built.in/one", &PullOptions::default()).await.unwrap();
        assert_eq!(again.id, image.id);
        assert_eq!(again.tags, ["built.in/one:latest", "built.in/one:v1"]);
        assert_eq!(std::fs::read_dir(directory.path().join("ingest")).unwrap().count(), 0);
    }
}
