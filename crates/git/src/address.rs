//! What of a repository's address may be shown.

/// The address without a password, and without a user except for SSH, where it is part of the place.
pub fn without_password(url: &str) -> String {
    match url.split_once("://").map(|(scheme, rest)| (scheme, rest.split_once('/').unwrap_or((rest, "")))) {
        Some((scheme, (authority, path))) => match authority.rsplit_once('@') {
            Some((login, host)) if scheme.contains("ssh") => {
                format!("{scheme}://{}@{host}/{path}", login.split(':').next().unwrap_or_default())
            }
            Some((_, host)) => format!("{scheme}://{host}/{path}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("https://me:secret@host/a"), "https://host/a");
        assert_eq!(without_password("https://host/a@b"), "https://host/a@b");
        assert_eq!(without_password("ssh://me:secret@host/a"), "ssh://me@host/a");
        assert_eq!(without_password("git@host:a"), "git@host:a");
    }
}
