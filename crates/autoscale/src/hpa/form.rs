//! How results are written down: by what they hold, as everything else that was read is.

/// A scale that was read or not: `{"values": ...}` or `{"failed": "why"}`.
pub mod scale {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::hpa::inputs::{Failure, Scale};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Form {
        Values(Scale),
        Failed(String),
    }

    pub fn serialize<S: Serializer>(
        scale: &Result<Scale, Failure>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let form = match scale {
            Ok(scale) => Form::Values(scale.clone()),
            Err(failure) => Form::Failed(failure.message.clone()),
        };
        form.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Result<Scale, Failure>, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Values(scale) => Ok(scale),
            Form::Failed(message) => Err(Failure::new(message)),
        })
    }
}

/// A metric's proposal, or why it gave none: `{"proposal": ...}` or `{"failure": ...}`.
pub mod proposal {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::hpa::decision::{MetricFailure, Proposal};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Form {
        Proposal(Proposal),
        Failure(MetricFailure),
    }

    pub fn serialize<S: Serializer>(
        result: &Result<Proposal, MetricFailure>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let form = match result {
            Ok(proposal) => Form::Proposal(proposal.clone()),
            Err(failure) => Form::Failure(failure.clone()),
        };
        form.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Result<Proposal, MetricFailure>, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Proposal(proposal) => Ok(proposal),
            Form::Failure(failure) => Err(failure),
        })
    }
}
