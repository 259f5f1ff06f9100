//! Instructions that bring files: `WORKDIR`, `COPY`, `ADD`.

use super::{Failure, Stage};
use crate::cache::Key;
use crate::copy::{Copy, make_directory};
use crate::dockerfile::{Copying, Expander};
use crate::error::Kind;
use crate::fetch;
use crate::repository::{Access, Repository};

impl Stage {
    pub(super) async fn workdir(&mut self, path: String) -> Result<(), Failure> {
        let path = if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path };
        let note = format!("WORKDIR {path}");
        let created_by = format!("{} #(nop) {note}", self.shell().join(" "));
        let key = self.key().text(&created_by);
        let record = match self.find(&key, Some(&created_by)) {
            Some(record) => record,
            None => {
                self.stand_in();
                let (layers, user, path) =
                    (self.built.layers.clone(), self.built.config.config.user.clone(), path.clone());
                let layer = self.work.blocking(move |work| make_directory(work, &layers, &path, &user)).await?;
                self.keep(&key, &note, layer)?
            }
        };
        self.built.config.config.working_dir = path;
        self.commit(record, created_by);
        Ok(())
    }

    pub(super) async fn copy(&mut self, name: &'static str, copying: &Copying) -> Result<(), Failure> {
        let mut copying = copying.clone();
        copying.sources = copying.sources.iter().map(|text| self.expand(text)).collect::<Result<_, _>>()?;
        let destination = self.expand(&copying.destination)?;
        copying.chown = self.expand_option(&copying.chown)?.filter(|text| !text.is_empty());
        copying.chmod = self.expand_option(&copying.chmod)?.filter(|text| !text.is_empty());
        copying.exclude = copying.exclude.iter().map(|text| self.expand(text)).collect::<Result<_, _>>()?;
        copying.checksum = self.expand_option(&copying.checksum)?;
        let lookup = |name: &str| self.lookup(name);
        for inline in copying.inline.iter_mut().filter(|inline| inline.expand) {
            let expander = Expander::new(self.work.dockerfile.escape, &lookup).without_quotes();
            inline.data = expander.word(&inline.data).map_err(|error| Kind::invalid(error.to_string()))?;
        }
        let from = match &copying.from {
            Some(name) => Some(self.origin(name).await?),
            None => None,
        };
        let (mut fetched, mut repositories) = (Vec::new(), Vec::new());
        if name == "ADD" {
            repositories = self.check_out(&mut copying).await?;
            fetched = self.fetch(&mut copying, &destination).await?;
        }
        let absolute = self.absolute(&destination);
        let chown = copying.chown.as_deref().map(|chown| format!("--chown={chown} ")).unwrap_or_default();
        let chmod = copying.chmod.as_deref().map(|chmod| format!("--chmod={chmod} ")).unwrap_or_default();
        let copy = Copy { name, copying, destination: absolute, from, fetched, repositories };
        let (gathering, shown) = (copy.clone(), copy.destination.clone());
        let gathered = self.work.blocking(move |work| gathering.gather(work)).await?;
        let note = format!("{name} {chown}{chmod}{} in {shown} ", gathered.sum);
        let created_by = format!("{} #(nop) {note}", self.shell().join(" "));
        // A linked layer depends on nothing below it; names of owners are looked up there all the same.
        let parent = if copy.copying.link && chown.is_empty() {
            Key::new(Some("link"), self.work.settings.clamp)
        } else {
            self.key()
        };
        let key = parent.text(&created_by).text(if copy.copying.parents { "parents" } else { "" });
        let key = key.text(&format!("{:?}", copy.copying.unpack));
        let record = match self.find(&key, Some(&created_by)) {
            Some(record) => record,
            None => {
                let layers = self.built.layers.clone();
                let layer = self.work.blocking(move |work| copy.layer(work, &layers, &gathered)).await?;
                self.keep(&key, &note, Some(layer))?
            }
        };
        self.commit(record, created_by);
        Ok(())
    }

    /// Fetches the repositories among the sources of an `ADD`, and takes them off the list.
    async fn check_out(&self, copying: &mut Copying) -> Result<Vec<std::path::PathBuf>, Failure> {
        let mut found = Vec::new();
        copying.sources.retain(|source| match Repository::parse(source) {
            Some(repository) => {
                found.push((source.clone(), repository));
                false
            }
            None => true,
        });
        let mut directories = Vec::new();
        for (source, repository) in found {
            let fail = |what: String| Kind::invalid(format!("ADD failed: {source}: {what}"));
            let expected = copying.checksum.take();
            if let Some(sum) = expected.as_ref().filter(|sum| !sum.chars().all(|c| c.is_ascii_hexdigit())) {
                let what = format!("invalid checksum {sum:?} for Git source, expected hex commit hash");
                return Err(Kind::invalid(what).into());
            }
            let place = self.work.scratch("git");
            let settings = &self.work.settings;
            let access = Access { agents: settings.agents.clone(), secrets: settings.all_secrets() };
            let files = repository.check_out(&place, settings.max_bytes, copying.keep_git, &access).await;
            let files = files.map_err(fail)?;
            if let Some(expected) = expected.filter(|expected| !files.commit.starts_with(expected)) {
                let what = format!("expected checksum to match {expected}, got {}", files.commit);
                return Err(Kind::invalid(what).into());
            }
            directories.push(files.directory);
        }
        Ok(directories)
    }

    /// Fetches the URLs among the sources of an `ADD`, and takes them off the list.
    async fn fetch(
        &self,
        copying: &mut Copying,
        destination: &str,
    ) -> Result<Vec<(String, std::path::PathBuf, Option<i64>)>, Failure> {
        let (urls, local): (Vec<String>, Vec<String>) = copying.sources.drain(..).partition(|s| fetch::is_url(s));
        copying.sources = local;
        if copying.checksum.is_some() && (urls.len() != 1 || !copying.sources.is_empty()) {
            return Err(Kind::invalid("checksum can't be specified for multiple or local sources").into());
        }
        let mut fetched = Vec::new();
        for url in urls {
            let path = self.work.scratch("url");
            let file = fetch::fetch(&url, &path, self.work.settings.max_bytes).await?;
            if let Some(expected) = copying.checksum.as_deref().filter(|expected| *expected != file.digest) {
                let message = format!("ADD failed: {url}: digest mismatch {}: {expected}", file.digest);
                return Err(Kind::invalid(message).into());
            }
            let name = match file.name {
                Some(name) => name,
                None if destination.ends_with('/') => {
                    return Err(Kind::invalid(format!("cannot determine filename from url: {url}")).into());
                }
                None => "index".into(),
            };
            fetched.push((name, path, file.modified));
        }
        Ok(fetched)
    }
}
