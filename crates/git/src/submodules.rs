//! Repositories within a repository: where a commit has them, and where they come from (gitmodules, git-submodule). Pure,
//! but for reading the commit's own objects.

use std::collections::BTreeMap;

use super::{
    checkout::{CheckoutError, DEEPEST},
    object::{Kind, Mode, Oid, commit_tree, entries},
    pack::Objects,
};

/// A repository in a directory of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submodule {
    /// The name that settings have it by.
    pub name: String,
    /// Its directory, without slashes around it.
    pub path: String,
    /// Where it comes from, as the other one's author wrote it.
    pub url: String,
    /// The commit that the other one's commit means.
    pub commit: Oid,
}

/// Those of a commit, in the order of their paths. One that nobody says the address of is left out, as by git.
///
/// # Errors
/// If the commit's objects cannot be had.
pub fn submodules(objects: &mut dyn Objects, commit: &Oid) -> Result<Vec<Submodule>, CheckoutError> {
    let tree = commit_tree(&objects.object(commit, Kind::Commit)?)?;
    let top = entries(&objects.object(&tree, Kind::Tree)?)?;
    // A link could lead anywhere: git does not follow it either.
    let is_settings = |mode| matches!(mode, Mode::File | Mode::Executable);
    let Some(settings) = top.iter().find(|entry| entry.name == b".gitmodules" && is_settings(entry.mode)) else {
        return Ok(Vec::new());
    };
    let text = objects.object(&settings.oid, Kind::Blob)?;
    let told = parse(&String::from_utf8_lossy(&text));
    let mut commits = BTreeMap::new();
    find(objects, &tree, "", 0, &mut commits)?;
    let mut found = Vec::new();
    for (path, commit) in commits {
        let own = told.iter().find(|(_, settings)| settings.get("path") == Some(&path));
        if let Some((name, url)) = own.and_then(|(name, settings)| Some((name, settings.get("url")?))) {
            found.push(Submodule { name: name.clone(), path, url: url.clone(), commit });
        }
    }
    Ok(found)
}

fn find(
    objects: &mut dyn Objects,
    tree: &Oid,
    below: &str,
    depth: usize,
    commits: &mut BTreeMap<String, Oid>,
) -> Result<(), CheckoutError> {
    if depth > DEEPEST {
        return Err(CheckoutError::TooDeep);
    }
    for entry in entries(&objects.object(tree, Kind::Tree)?)? {
        let Ok(name) = std::str::from_utf8(&entry.name) else { continue };
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        match entry.mode {
            Mode::Tree => find(objects, &entry.oid, &path, depth + 1, commits)?,
            Mode::Submodule => drop(commits.insert(path, entry.oid)),
            _ => {}
        }
    }
    Ok(())
}

/// The sections `[submodule "NAME"]` of a file of settings (git-config, CONFIGURATION FILE). What comes later counts.
fn parse(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut section = None;
    for line in text.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[') {
            section = heading(head);
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        if let Some(name) = &section {
            let settings = sections.entry(name.clone()).or_default();
            settings.insert(key.trim().to_ascii_lowercase(), value_of(value));
        }
    }
    sections
}

fn heading(text: &str) -> Option<String> {
    let (kind, rest) = text.split_once('"')?;
    let mut name = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => name.push(characters.next()?),
            other => name.push(other),
        }
    }
    kind.trim().eq_ignore_ascii_case("submodule").then_some(name)
}

/// A value without its quotes, and without a remark behind it.
fn value_of(text: &str) -> String {
    let (mut value, mut quoted) = (String::new(), false);
    let mut characters = text.trim().chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' => match characters.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(other) => value.push(other),
                None => {}
            },
            '#' | ';' if !quoted => break,
            other => value.push(other),
        }
    }
    value.trim_end().to_owned()
}

/// The address that is meant in a repository with that of `base`: `./` and `../` lead from there.
#[must_use]
pub fn resolve(base: &str, url: &str) -> String {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.to_owned();
    }
    let mut base = base.trim_end_matches('/').to_owned();
    let mut rest = url;
    loop {
        if let Some(further) = rest.strip_prefix("./") {
            rest = further;
        } else if let Some(further) = rest.strip_prefix("../") {
            rest = further;
            // The last part goes, of `host:path` as scp writes it, too; a server does not.
            match (base.rfind('/'), base.rfind(':')) {
                (Some(slash), _) if !base[..slash].ends_with("/") => base.truncate(slash),
                (None, Some(colon)) => base.truncate(colon + 1),
                _ => {}
            }
        } else {
            break;
        }
    }
    let between = if base.ends_with(':') { "" } else { "/" };
    format!("{base}{between}{}", rest.trim_end_matches('/'))
}

/// What a repository's own settings say of them, once they are there.
#[must_use]
pub fn settings_of(submodules: &[Submodule], base: &str) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let one = |submodule: &Submodule| {
        let (name, url) = (quoted(&submodule.name), quoted(&resolve(base, &submodule.url)));
        format!("[submodule \"{name}\"]\n\tactive = true\n\turl = \"{url}\"\n")
    };
    submodules.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_git_reads_them() {
        let text = "# remark\n[core]\n\tpath = no\n[submodule \"a \\\"b\\\"\"]\n\tpath = sub/a ; remark\n\tURL = \"../x#y.git\"\n\
                    [Submodule \"c\"]\npath=c\nurl = one\nurl = two\n[submodule]\n\turl = nobody\n";
        let found = parse(text);
        let of = |name: &str, key: &str| found[name][key].as_str();
        assert_eq!(found.len(), 2);
        assert_eq!((of("a \"b\"", "path"), of("a \"b\"", "url")), ("sub/a", "../x#y.git"));
        assert_eq!((of("c", "path"), of("c", "url")), ("c", "two"));
    }

    #[test]
    fn addresses_lead_from_where_the_repository_is() {
        for (base, url, meant) in [
            ("https://host/a/b.git", "https://other/x", "https://other/x"),
            ("https://host/a/b.git", "../c.git", "https://host/a/c.git"),
            ("https://host/a/b.git/", "./c", "https://host/a/b.git/c"),
            ("https://host/a/b.git", "../../../../c", "https://host/c"),
            ("git@host:a/b.git", "../c.git", "git@host:a/c.git"),
            ("git@host:b.git", "../c.git", "git@host:c.git"),
            ("ssh://git@host:22/b", "../c/", "ssh://git@host:22/c"),
        ] {
            assert_eq!(resolve(base, url), meant, "{base} {url}");
        }
    }
}
