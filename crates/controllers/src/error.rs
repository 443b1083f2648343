//! Why a reconcile failed.

/// A failed step of a controller: what was attempted, on what, and the API's answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused or did not answer.
    #[error("cannot {action} {object}: {source}; the controller tries again by itself")]
    Api {
        /// The verb and kind.
        action: &'static str,
        /// `NAMESPACE/NAME`.
        object: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// Something beside the API failed.
    #[error("cannot {action} {object}: {why}; the controller tries again by itself")]
    Other {
        /// The verb and kind.
        action: &'static str,
        /// `NAMESPACE/NAME`.
        object: String,
        /// What went wrong.
        why: String,
    },
    /// Another writer was first or a cache is behind; nothing is wrong.
    #[error("{object} changed meanwhile; it is looked at again")]
    Stale {
        /// `NAMESPACE/NAME`.
        object: String,
    },
}

impl Error {
    /// For `map_err`: adds what was attempted on what.
    pub fn api(
        action: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(kube::Error) -> Self {
        let object = object.into();
        move |source| match status_code(&source) {
            Some(409) if reason(&source) == "Conflict" => Self::Stale { object },
            _ => Self::Api {
                action,
                object,
                source: Box::new(source),
            },
        }
    }

    /// The API's own words, as upstream's events quote them.
    pub fn cause(&self) -> String {
        match self {
            Self::Api { source, .. } => message(source),
            Self::Other { why, .. } => why.clone(),
            Self::Stale { .. } => self.to_string(),
        }
    }

    /// Expected now and then, not worth a warning.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }
}

/// The HTTP status of an API error.
pub fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The machine-readable reason of an API error.
pub fn reason(error: &kube::Error) -> &str {
    match error {
        kube::Error::Api(status) => &status.reason,
        _ => "",
    }
}

/// The object does not exist.
pub fn is_not_found(error: &kube::Error) -> bool {
    status_code(error) == Some(404)
}

/// The API's own words, as upstream's events quote them.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The namespace is being deleted: creating in it is pointless and not an error.
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    status.details.as_ref().is_some_and(|details| {
        details
            .causes
            .iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
    })
}
