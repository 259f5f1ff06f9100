//! Looking for what is not here in the upstream registry, if there is one.
//!
//! A tag that somebody pushed here is this registry's own. One that came from upstream is asked for there every time,
//! because it may have moved; if upstream can't be reached, what is here is served.

use engine::content::{ContentError, Digest, ManifestError, Repository, Upstream};

use crate::{
    blobs::Source,
    failure::{Code, Failure},
    registry::Registry,
};

/// The manifest that a tag stands for, fetched if need be.
pub(crate) async fn tag(registry: &Registry, repository: &Repository, tag: &str) -> Result<Option<Digest>, Failure> {
    let wanted = tag.to_owned();
    let local = registry.blocking(repository, move |r| r.tag(&wanted)).await?;
    let upstream = match &registry.inner.upstream {
        Some(upstream) if local.as_ref().is_none_or(|l| l.mirrored) => upstream,
        _ => return Ok(local.map(|l| l.digest)),
    };
    match refresh(registry, upstream, repository, tag, local.as_ref().map(|l| &l.digest)).await {
        Ok(digest) => Ok(Some(digest)),
        Err(Stop::Upstream(ContentError::NotInRegistry { .. })) => Ok(None),
        Err(Stop::Upstream(error)) => match local {
            Some(local) => {
                tracing::warn!(repository = repository.name(), tag, %error, "serving what is here, upstream fails");
                Ok(Some(local.digest))
            }
            None => Err(error.into()),
        },
        Err(Stop::Here(failure)) => Err(failure),
    }
}

/// That manifest, fetched if need be.
pub(crate) async fn manifest(
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<Digest>, Failure> {
    let wanted = digest.clone();
    if registry.blocking(repository, move |r| Ok::<_, Failure>(r.has_manifest(&wanted))).await? {
        return Ok(Some(digest.clone()));
    }
    let Some(upstream) = &registry.inner.upstream else { return Ok(None) };
    match fetch(registry, upstream, repository, digest, None).await {
        Ok(()) => Ok(Some(digest.clone())),
        Err(Stop::Upstream(ContentError::NotInRegistry { .. })) => Ok(None),
        Err(Stop::Upstream(error)) => Err(error.into()),
        Err(Stop::Here(failure)) => Err(failure),
    }
}

/// A blob that the repository does not have. With `head`, its length is enough.
pub(crate) async fn blob(
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
    head: bool,
) -> Result<Option<Source>, Failure> {
    let Some(upstream) = &registry.inner.upstream else { return Ok(None) };
    let wanted = digest.clone();
    let announced = registry.blocking(repository, move |r| r.announced(&wanted)).await?;
    let size = match announced {
        Some(size) => size,
        None => match upstream.size(repository.name(), digest).await {
            Ok(size) => size,
            Err(ContentError::NotInRegistry { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        },
    };
    if head {
        return Ok(Some(Source::Known { size }));
    }
    // What a manifest here needs stays for its sake; a promise would keep it beyond that.
    let grace = registry.config().mirror.as_ref().map(|mirror| mirror.grace);
    let keep = grace.filter(|_| announced.is_some()).unwrap_or(registry.config().keep);
    let wanted = digest.clone();
    let content = registry.config().content.clone();
    // The upstream registry has it in this repository, and the engine or another repository fetched it before.
    let here = registry
        .blocking(repository, move |r| {
            if !r.mount(&wanted, None, keep)? {
                return Ok::<_, ContentError>(None);
            }
            Ok(std::fs::File::open(content.blob_path(&wanted)).ok().map(|file| Source::Here { file, size }))
        })
        .await?;
    if here.is_some() {
        return Ok(here);
    }
    let (link, wanted) = (repository.clone(), digest.clone());
    let grown = registry.clone();
    let arrived = move || {
        link.mount(&wanted, None, keep)?;
        grown.grown();
        Ok(())
    };
    match upstream.blob(repository.name(), digest, size, arrived).await {
        Ok(arriving) => Ok(Some(Source::Arriving(arriving))),
        Err(ContentError::NotInRegistry { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits until a blob of the upstream registry is here; if it is not there, nothing happens.
pub(crate) async fn bring(registry: &Registry, repository: &Repository, digest: &Digest) -> Result<(), Failure> {
    let Some(Source::Arriving(mut arriving)) = blob(registry, repository, digest, false).await? else { return Ok(()) };
    let ended = arriving.progress.wait_for(|progress| progress.ended.is_some()).await;
    match ended.ok().and_then(|progress| progress.ended.clone()) {
        Some(Err(error)) => {
            tracing::warn!(%digest, %error, "a blob can't be fetched");
            Err(Code::Unavailable.failure())
        }
        _ => Ok(()),
    }
}

/// Whose fault it is.
enum Stop {
    Upstream(ContentError),
    Here(Failure),
}

async fn refresh(
    registry: &Registry,
    upstream: &Upstream,
    repository: &Repository,
    tag: &str,
    local: Option<&Digest>,
) -> Result<Digest, Stop> {
    let digest = upstream.current(repository.name(), tag).await.map_err(Stop::Upstream)?;
    if local != Some(&digest) {
        fetch(registry, upstream, repository, &digest, Some(tag)).await?;
    }
    Ok(digest)
}

async fn fetch(
    registry: &Registry,
    upstream: &Upstream,
    repository: &Repository,
    digest: &Digest,
    tag: Option<&str>,
) -> Result<(), Stop> {
    let fetched = upstream.manifest(repository.name(), digest).await.map_err(Stop::Upstream)?;
    let tag = tag.map(str::to_owned);
    let stored = registry
        .blocking::<_, ManifestError>(repository, move |r| {
            r.mirror_manifest(&fetched.digest, &fetched.bytes, &fetched.media_type, tag.as_deref())
        })
        .await;
    registry.grown();
    stored.map(drop).map_err(Stop::Here)
}
