//! Contexts with names, in the places of stages and images of those names. Pure.

use std::collections::BTreeMap;

use engine::content::Reference;

use crate::dockerfile::{Command, Copying, Dockerfile, Instruction};
use crate::request::NamedContext;

/// What a name of `FROM` or `--from` stands for by the request's will: names of images count however they are written.
pub(crate) fn named<'a>(contexts: &'a BTreeMap<String, NamedContext>, name: &str) -> Option<&'a NamedContext> {
    let plain = |name: &str| {
        let familiar = Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar());
        familiar.strip_suffix(":latest").map(str::to_owned).unwrap_or(familiar)
    };
    contexts.get(name).or_else(|| contexts.get(&plain(name)))
}

/// Stages that have the name of a context become what that is.
pub fn replace_stages(dockerfile: &mut Dockerfile, contexts: &BTreeMap<String, NamedContext>) {
    for stage in &mut dockerfile.stages {
        let Some(name) = stage.name.clone() else { continue };
        let Some(context) = contexts.get(&name) else { continue };
        stage.platform = None;
        stage.instructions.clear();
        match context {
            NamedContext::Image(image) => stage.base.clone_from(image),
            NamedContext::Directory(_) => {
                stage.base = "scratch".into();
                let copying = Copying {
                    sources: vec!["/".into()],
                    destination: "/".into(),
                    from: Some(name.clone()),
                    ..Copying::default()
                };
                stage.instructions.push(Instruction {
                    line: stage.from.line,
                    end: stage.from.end,
                    original: format!("COPY --from={name} / /"),
                    command: Command::Copy(copying),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_found_by_any_spelling_of_its_image_and_takes_the_place_of_its_stage() {
        let image = || NamedContext::Image("localhost:5000/other".into());
        let contexts = BTreeMap::from([
            ("alpine".to_owned(), image()),
            ("base".to_owned(), image()),
            ("files".to_owned(), NamedContext::Directory("/x".into())),
        ]);
        for name in ["alpine", "alpine:latest", "docker.io/library/alpine"] {
            assert_eq!(named(&contexts, name), Some(&image()), "{name}");
        }
        assert_eq!(named(&contexts, "alpine:3"), None);
        let text = "FROM busybox AS base\nRUN a\nFROM busybox AS files\nRUN b\nFROM base\nRUN c";
        let mut dockerfile = Dockerfile::parse(text).unwrap();
        replace_stages(&mut dockerfile, &contexts);
        let [base, files, last] = dockerfile.stages.as_slice() else { panic!("three stages") };
        assert_eq!((base.base.as_str(), base.instructions.len()), ("localhost:5000/other", 0));
        assert_eq!((files.base.as_str(), files.instructions.len()), ("scratch", 1));
        assert_eq!((last.base.as_str(), last.instructions.len()), ("base", 1));
    }
}
