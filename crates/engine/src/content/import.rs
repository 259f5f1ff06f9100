//! Images from files: `docker save` archives, OCI archives and layouts, and plain root file systems.

use std::{
    fs::File,
    io::{Read, copy},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    Content, ContentError, Digest, Image, ImageConfig, Reference,
    archive::TarFile,
    config::{History, RootFs},
    manifest::{self, Descriptor, Document, Manifest},
};

/// The annotations in which tools keep an image's name within a layout.
const NAME: &str = "io.containerd.image.name";
const TAG: &str = "org.opencontainers.image.ref.name";

/// One image of `manifest.json` in a `docker save` archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What the images of an archive are called.
enum Naming<'a> {
    /// So.
    Given(&'a Reference),
    /// As the archive says.
    Own,
    /// As the archive says, and by their manifest's digest where it does not.
    OwnOr(&'a dyn Fn(&Digest) -> String),
}

impl Naming<'_> {
    fn of(&self, own: Option<&str>, manifest: &Digest) -> Result<Reference, ContentError> {
        match (self, own) {
            (Self::Given(name), _) => Ok((*name).clone()),
            (_, Some(text)) => Reference::parse(text),
            (Self::OwnOr(make), None) => Reference::parse(&make(manifest)),
            (Self::Own, None) => Err(ContentError::Invalid("the archive does not name its image: give it one".into())),
        }
    }
}

/// Which images of an archive are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePlatform {
    /// As Go names it, for instance `linux`.
    pub os: String,
    /// As Go names it, for instance `amd64`.
    pub architecture: String,
    /// For instance `v8`; empty for the architecture's usual one.
    pub variant: String,
}

impl ImagePlatform {
    fn is_of(&self, config: &ImageConfig) -> bool {
        let own = config.variant.as_deref().unwrap_or_default();
        self.os == config.os
            && self.architecture == config.architecture
            && usual(&self.architecture, &self.variant) == usual(&config.architecture, own)
    }
}

/// A variant with those that need not be said spelt out (as containerd's `platforms` normalizes them).
fn usual<'a>(architecture: &str, variant: &'a str) -> &'a str {
    match (architecture, variant) {
        ("arm64", "" | "8") => "v8",
        ("arm", "" | "7") => "v7",
        ("amd64", "") => "v1",
        (_, own) => own,
    }
}

/// An image, and the names that it got.
type Imported = (Image, Vec<Reference>);

/// A tar file or a directory, read by member name.
enum Files {
    Tar(TarFile),
    Directory(PathBuf),
}

impl Content {
    /// Imports every image of an archive or a layout directory; `name` names the only one, or a plain root
    /// file system (which must have one). The first name is the image's when there are several.
    ///
    /// # Errors
    /// [`ContentError::Invalid`] for what is none of these, or as [`Content::pull`].
    pub fn import(&self, path: &Path, name: Option<&str>) -> Result<Vec<Image>, ContentError> {
        let name = name.map(Reference::parse).transpose()?;
        let imported = self.import_named(path, &name.as_ref().map_or(Naming::Own, Naming::Given), None)?;
        Ok(imported.into_iter().map(|(image, _)| image).collect())
    }

    /// Imports every image of an archive or a layout directory, each under the names that it has there; one without gets
    /// that which `nameless` makes of its manifest's digest. Answers which names each got; an image with several may come
    /// several times. Images of another platform than the one that is `wanted` are passed over; with none, of several
    /// wrapped as one the image for this machine is taken.
    ///
    /// # Errors
    /// As [`Content::import`].
    pub fn import_all(
        &self,
        path: &Path,
        nameless: &dyn Fn(&Digest) -> String,
        wanted: Option<&ImagePlatform>,
    ) -> Result<Vec<(Image, Vec<Reference>)>, ContentError> {
        self.import_named(path, &Naming::OwnOr(nameless), wanted)
    }

    fn import_named(
        &self,
        path: &Path,
        naming: &Naming<'_>,
        wanted: Option<&ImagePlatform>,
    ) -> Result<Vec<Imported>, ContentError> {
        let _adding = self.adding()?;
        let files = if path.is_dir() {
            Files::Directory(path.to_path_buf())
        } else {
            Files::Tar(TarFile::open(path, &self.path("ingest"))?)
        };
        if files.contains("index.json") {
            return self.import_layout(&files, naming, wanted);
        }
        if files.contains("manifest.json") {
            return self.import_docker(&files, naming, wanted);
        }
        match (&files, naming) {
            (Files::Tar(tar), Naming::Given(name)) => Ok(vec![(self.import_rootfs(tar, name)?, vec![(*name).clone()])]),
            (Files::Tar(_), _) => Err(ContentError::Invalid(format!(
                "{}: a plain root file system needs a name for the image it becomes",
                path.display()
            ))),
            (Files::Directory(_), _) => {
                Err(ContentError::Invalid(format!("{}: no OCI layout (index.json is missing)", path.display())))
            }
        }
    }

    fn import_layout(
        &self,
        files: &Files,
        naming: &Naming<'_>,
        wanted: Option<&ImagePlatform>,
    ) -> Result<Vec<Imported>, ContentError> {
        let Document::Index(entries) = Document::parse(&files.small("index.json")?)? else {
            return Err(ContentError::Invalid("index.json is no index".into()));
        };
        let mut images = Vec::new();
        for entry in &entries {
            let annotation = |key: &str| entry.annotations.as_ref().and_then(|a| a.get(key));
            let mut digest = entry.digest.clone();
            let manifest = loop {
                let bytes = files.blob(&digest)?;
                let inner = match Document::parse(&bytes)? {
                    Document::Manifest(manifest) => break Some((manifest, bytes)),
                    Document::Index(inner) => inner,
                };
                let of_it = match wanted {
                    Some(wanted) => manifest::for_platform(&inner, &wanted.os, &wanted.architecture),
                    None => manifest::for_this_machine(&inner),
                };
                match of_it {
                    Some(of_it) => digest = of_it.digest.clone(),
                    None if wanted.is_some() => break None,
                    None => {
                        let reason = format!("no image for linux/{}", manifest::architecture());
                        return Err(ContentError::Invalid(reason));
                    }
                }
            };
            let Some((manifest, bytes)) = manifest else { continue };
            if let Some(wanted) = wanted
                && !wanted.is_of(&parse_config(&files.blob(&manifest.config.digest)?)?)
            {
                continue;
            }
            self.write_blob(&bytes)?;
            let named = naming.of(annotation(NAME).or_else(|| annotation(TAG)).map(String::as_str), &digest)?;
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                if !self.has_blob(&blob.digest) {
                    self.ingest_reader(
                        &mut files.open(&format!("blobs/sha256/{}", blob.digest.hex()))?,
                        Some(&blob.digest),
                    )?;
                }
            }
            self.adopt(&manifest)?;
            images.push((self.name_image(&named, &digest)?, vec![named]));
        }
        if images.is_empty() && wanted.is_none() {
            return Err(ContentError::Invalid("the archive holds no image".into()));
        }
        Ok(images)
    }

    fn import_docker(
        &self,
        files: &Files,
        naming: &Naming<'_>,
        wanted: Option<&ImagePlatform>,
    ) -> Result<Vec<Imported>, ContentError> {
        let listed: Vec<DockerImage> = serde_json::from_slice(&files.small("manifest.json")?)
            .map_err(|e| ContentError::Invalid(format!("manifest.json: {e}")))?;
        let mut images = Vec::new();
        for one in listed {
            let config_bytes = files.small(&one.config)?;
            if let Some(wanted) = wanted
                && !wanted.is_of(&parse_config(&config_bytes)?)
            {
                continue;
            }
            let layers = one
                .layers
                .iter()
                .map(|layer| {
                    let (digest, size) = self.ingest_reader(&mut files.open(layer)?, None)?;
                    Ok(descriptor(manifest::OCI_LAYER, digest, size))
                })
                .collect::<Result<Vec<_>, ContentError>>()?;
            let manifest = self.compose(&config_bytes, layers)?;
            let digest = self.write_manifest(&manifest)?;
            self.adopt(&manifest)?;
            let own: Vec<&str> = one.repo_tags.iter().flatten().map(String::as_str).collect();
            let mut names = vec![naming.of(own.first().copied(), &digest)?];
            if !matches!(naming, Naming::Given(_)) {
                for name in own.iter().skip(1) {
                    names.push(Reference::parse(name)?);
                }
            }
            for extra in &names[1..] {
                self.name_image(extra, &digest)?;
            }
            images.push((self.name_image(&names[0], &digest)?, names));
        }
        Ok(images)
    }

    fn import_rootfs(&self, tar: &TarFile, name: &Reference) -> Result<Image, ContentError> {
        let (layer, size) = self.ingest_reader(&mut tar.whole()?, None)?;
        let config = ImageConfig {
            created: Some(String::from("1970-01-01T00:00:00Z")),
            architecture: manifest::architecture().into(),
            os: "linux".into(),
            rootfs: RootFs { kind: "layers".into(), diff_ids: vec![layer.clone()] },
            history: vec![History { comment: Some("Imported from a root file system".into()), ..Default::default() }],
            ..Default::default()
        };
        let config = serde_json::to_vec(&config).expect("a configuration is always JSON");
        let manifest = self.compose(&config, vec![descriptor(manifest::OCI_LAYER, layer, size)])?;
        let digest = self.write_manifest(&manifest)?;
        self.adopt(&manifest)?;
        self.name_image(name, &digest)
    }

    fn compose(&self, config: &[u8], layers: Vec<Descriptor>) -> Result<Manifest, ContentError> {
        let digest = self.write_blob(config)?;
        Ok(Manifest {
            schema_version: 2,
            media_type: manifest::OCI_MANIFEST.into(),
            config: descriptor(manifest::OCI_CONFIG, digest, config.len() as u64),
            layers,
        })
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<Digest, ContentError> {
        self.write_blob(&serde_json::to_vec(manifest).expect("a manifest is always JSON"))
    }

    /// Checks that the configuration fits and unpacks the layers.
    fn adopt(&self, manifest: &Manifest) -> Result<(), ContentError> {
        let config = parse_config(&self.read_blob(&manifest.config.digest)?)?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(ContentError::Invalid(
                "the configuration names another number of layers than the manifest".into(),
            ));
        }
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            self.unpack_layer(&layer.digest, diff_id)?;
        }
        Ok(())
    }

    fn name_image(&self, name: &Reference, manifest: &Digest) -> Result<Image, ContentError> {
        self.change_names(|names| {
            names.names.insert(name.to_string(), manifest.clone());
            Ok(())
        })?;
        self.image(&name.to_string())
    }

    fn ingest_reader(&self, reader: &mut dyn Read, expected: Option<&Digest>) -> Result<(Digest, u64), ContentError> {
        let mut ingest = self.ingest_anonymous()?;
        let mut buffer = vec![0; 1 << 17];
        loop {
            let n = reader.read(&mut buffer).map_err(|e| ContentError::io("read", Path::new("archive"), e))?;
            if n == 0 {
                return ingest.commit(expected);
            }
            ingest.write(&buffer[..n])?;
        }
    }
}

impl Files {
    fn contains(&self, name: &str) -> bool {
        match self {
            Self::Tar(tar) => tar.contains(name),
            Self::Directory(dir) => dir.join(name).is_file(),
        }
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read>, ContentError> {
        match self {
            Self::Tar(tar) => Ok(Box::new(tar.member(name)?)),
            Self::Directory(dir) => {
                let path = dir.join(name);
                Ok(Box::new(File::open(&path).map_err(|e| ContentError::io("open", &path, e))?))
            }
        }
    }

    /// A member that is held in memory: a manifest or a configuration (4 MiB at most, as registries have it).
    fn small(&self, name: &str) -> Result<Vec<u8>, ContentError> {
        let mut bytes = Vec::new();
        let mut reader = self.open(name)?.take(4 << 20);
        copy(&mut reader, &mut bytes).map_err(|e| ContentError::io("read", Path::new(name), e))?;
        Ok(bytes)
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, ContentError> {
        let bytes = self.small(&format!("blobs/sha256/{}", digest.hex()))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(ContentError::Mismatch { expected: digest.clone(), actual });
        }
        Ok(bytes)
    }
}

fn parse_config(bytes: &[u8]) -> Result<ImageConfig, ContentError> {
    serde_json::from_slice(bytes).map_err(|e| ContentError::Invalid(format!("configuration: {e}")))
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.into(), digest, size, platform: None, annotations: None }
}
