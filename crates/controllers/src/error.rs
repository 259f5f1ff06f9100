//! What stops a reconciliation; it is always tried again.

/// Why an object could not be reconciled this time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused or could not be reached.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The object can't be worked with until its owner changes it.
    #[error("{0}")]
    Object(String),
    /// Something is under way; look again once the cache has caught up.
    #[error("{0}")]
    NotYet(&'static str),
}

impl Error {
    /// A write lost against another one.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409) && self.reason() == Some("Conflict")
    }

    /// The object is there already.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == Some("AlreadyExists")
    }

    /// The object is gone: the server said so, which a failed request never does.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404) && self.reason() == Some("NotFound")
    }

    /// Its namespace is being deleted, so nothing can be created in it any more.
    pub fn is_namespace_terminating(&self) -> bool {
        match self {
            Self::Api(kube::Error::Api(status)) => {
                status.details.iter().flat_map(|d| &d.causes).any(|c| c.reason == "NamespaceTerminating")
            }
            _ => false,
        }
    }

    /// The object can't be as the request wants it.
    pub fn is_invalid(&self) -> bool {
        self.reason() == Some("Invalid")
    }

    /// It may not be: a quota, an admission.
    pub fn is_forbidden(&self) -> bool {
        self.reason() == Some("Forbidden")
    }

    /// Whether what was asked for may have been done all the same: the answer was lost, or came from between.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Api(_)) && self.code().is_none_or(|code| code >= 500)
    }

    /// The words that events and conditions show: the server's own where it answered.
    pub fn message(&self) -> String {
        match self {
            Self::Api(kube::Error::Api(status)) => status.message.clone(),
            other => other.to_string(),
        }
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(&status.reason),
            _ => None,
        }
    }
}

/// Turns "it is gone" into success.
pub fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<(), Error> {
    match result.map_err(Error::from) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}
