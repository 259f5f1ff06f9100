//! Images that come with the program: a pull of such a name is answered from here, without any registry.

use std::{io, path::Path, sync::Arc};

use super::{Content, ContentError, Digest, Image, Reference};

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

/// The image, and what it was once it was made: it is made once in this process, however many wait for it.
pub(super) struct Made {
    image: Arc<dyn BuiltIn>,
    id: parking_lot::Mutex<Option<Digest>>,
}

impl Content {
    /// Answers pulls of an image's names with the image. Nothing is made before the first pull; later calls are ignored.
    pub fn build_in(&self, image: Arc<dyn BuiltIn>) {
        let _ = self.inner.built_in.set(Arc::new(Made { image, id: Default::default() }));
    }

    /// The built-in image of that name, brought into the store.
    pub(super) async fn pull_built_in(&self, reference: &Reference) -> Option<Result<Image, ContentError>> {
        let made = self.inner.built_in.get().filter(|made| made.image.is(reference))?.clone();
        let name = reference.to_string();
        Some(
            self.blocking(move |content| {
                let mut id = made.id.lock();
                if let Some(image) = id.as_ref().and_then(|id| content.image(id.as_str()).ok()) {
                    if !image.tags.contains(&name) {
                        content.tag(image.id.as_str(), &name)?;
                    }
                    return content.image(&name);
                }
                let directory = content.path("ingest");
                let fail = |e| ContentError::io("write", &directory, e);
                let archive = tempfile::Builder::new().prefix("built-in-").tempfile_in(&directory).map_err(fail)?;
                made.image.write(archive.path()).map_err(fail)?;
                let images = content.import(archive.path(), Some(&name))?;
                let image = images.into_iter().next().ok_or(ContentError::NotFound(name))?;
                *id = Some(image.id.clone());
                Ok(image)
            })
            .await,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::content::PullOptions;

    /// Counts how often it is made.
    struct OneFile(AtomicUsize);

    impl BuiltIn for OneFile {
        fn is(&self, reference: &Reference) -> bool {
            reference.name() == "built.in/one"
        }

        fn write(&self, archive: &Path) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
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
        let (made, options) = (Arc::new(OneFile(AtomicUsize::new(0))), PullOptions::default());
        content.build_in(made.clone());
        assert!(content.images().unwrap().is_empty(), "nothing is made before somebody asks");
        let image = content.pull("built.in/one:v1", &PullOptions::default()).await.unwrap();
        assert_eq!(image.tags, ["built.in/one:v1"]);
        let again = content.pull("built.in/one", &PullOptions::default()).await.unwrap();
        assert_eq!(again.id, image.id);
        assert_eq!(again.tags, ["built.in/one:latest", "built.in/one:v1"]);
        content.remove_image("built.in/one:v1", false).unwrap();
        let pulls = (0..4).map(|_| content.pull("built.in/one:v1", &options));
        for pulled in futures::future::join_all(pulls).await {
            assert_eq!(pulled.unwrap().id, image.id);
        }
        assert_eq!(made.0.load(Ordering::Relaxed), 1, "who waits for it gets what was made");
        for tag in again.tags {
            content.remove_image(&tag, false).unwrap();
        }
        content.pull("built.in/one:v1", &options).await.unwrap();
        assert_eq!(made.0.load(Ordering::Relaxed), 2, "what was removed is made again");
        assert_eq!(std::fs::read_dir(directory.path().join("ingest")).unwrap().count(), 0);
    }
}
