//! Addresses of what is asked: `KIND://[USER[:PASSWORD]@]HOST[:PORT][/PATH][?NAME=VALUE&…]`.

use std::{fmt, str::FromStr};

use percent_encoding::percent_decode_str;

/// Where something is, and as whom it is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// `redis`, `postgres`, …
    pub scheme: String,
    /// The user; empty if none is named.
    pub user: String,
    /// The password.
    pub password: Option<String>,
    /// A name, an address, or the path of a socket (`%2Frun%2Fx.sock`).
    pub host: String,
    /// The port, if one is named.
    pub port: Option<u16>,
    /// What follows, without the slash.
    pub path: String,
    /// What follows the question mark.
    pub query: Vec<(String, String)>,
}

/// Not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be KIND://[USER[:PASSWORD]@]HOST[:PORT][/PATH][?NAME=VALUE]")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().map_err(|_| AddressError)?)),
            _ => (host, None),
        };
        let plain = |text: &str| percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| AddressError);
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((plain(name)?, plain(&value.replace('+', " "))?))
        });
        let legal = !scheme.is_empty() && !host.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !legal {
            return Err(AddressError);
        }
        Ok(Self {
            scheme: scheme.to_owned(),
            user: plain(user)?,
            password: password.map(plain).transpose()?,
            host: plain(host)?,
            port,
            path: plain(path)?,
            query: query.collect::<Result<_, _>>()?,
        })
    }
}

impl Address {
    /// A parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_and_its_password_never_shown() {
        let address: Address = "postgres://me:p%40ss:word@[::1]:5432/db?query=SELECT+1&x".parse().unwrap();
        assert_eq!((address.user.as_str(), address.password.as_deref()), ("me", Some("p@ss:word")));
        assert_eq!((address.host.as_str(), address.port, address.path.as_str()), ("[::1]", Some(5432), "db"));
        assert_eq!((address.parameter("query"), address.parameter("x")), (Some("SELECT 1"), Some("")));
        assert_eq!(format!("{address} {address:?}"), "postgres://[::1]:5432 postgres://[::1]:5432");
        let socket: Address = "redis://%2Frun%2Fredis.sock".parse().unwrap();
        assert_eq!((socket.host.as_str(), socket.port), ("/run/redis.sock", None));
        for text in ["", "redis", "redis://", "redis://h:port", "re dis://h", "redis://h:99999"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
