//! Versions of the API and how a request picks one.

use crate::error::{ApiError, Result};

/// The newest version served.
pub(crate) const API_VERSION: &str = "1.51";
/// The oldest.
pub(crate) const MIN_API_VERSION: &str = "1.24";

/// `1.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub u32);

impl Version {
    /// What a request without a version speaks.
    pub const NEWEST: Version = Version(51);
    const OLDEST: Version = Version(24);

    /// Splits `/v1.41/info` into its version and `/info`.
    pub fn split(path: &str) -> Result<(Version, &str)> {
        let Some(rest) = path.strip_prefix("/v") else { return Ok((Self::NEWEST, path)) };
        let (version, rest) = rest.find('/').map_or((rest, "/"), |at| (&rest[..at], &rest[at..]));
        let Some((major, minor)) = version.split_once('.') else { return Ok((Self::NEWEST, path)) };
        let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else {
            return Ok((Self::NEWEST, path));
        };
        if major > 1 || minor > Self::NEWEST.0 {
            return Err(ApiError::bad(format!(
                "client version {version} is too new. Maximum supported API version is {API_VERSION}"
            )));
        }
        if major < 1 || minor < Self::OLDEST.0 {
            return Err(ApiError::bad(format!(
                "client version {version} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade \
                 your client to a newer version"
            )));
        }
        Ok((Version(minor), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_prefix_is_optional_and_bounded() {
        assert_eq!(Version::split("/v1.41/info").unwrap(), (Version(41), "/info"));
        assert_eq!(Version::split("/version").unwrap(), (Version::NEWEST, "/version"));
        assert_eq!(Version::split("/volumes/x").unwrap(), (Version::NEWEST, "/volumes/x"));
        assert!(Version::split("/v1.99/info").unwrap_err().message.contains("too new"));
        assert!(Version::split("/v1.12/info").unwrap_err().message.contains("too old"));
    }
}
