//! Label selectors, read once and asked often.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A label selector; one that is not there, or cannot be read, selects nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selects(Option<Selector>);

impl Selects {
    /// As the API has it: an empty selector selects everything.
    pub fn of(selector: Option<&LabelSelector>) -> Self {
        Self(selector.and_then(|selector| Selector::try_from(selector.clone()).ok()))
    }

    /// Whether the labels are selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0
            .as_ref()
            .is_some_and(|selector| selector.matches(labels))
    }

    /// It names no label: it selects everything or nothing.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(Selector::selects_all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_selects_nothing_and_empty_everything() {
        let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
        let read = |value| serde_json::from_value::<LabelSelector>(value).unwrap();
        let table = [
            (None, false, true),
            (Some(read(json!({}))), true, true),
            (
                Some(read(json!({"matchLabels": {"app": "web"}}))),
                true,
                false,
            ),
            (
                Some(read(json!({"matchLabels": {"app": "db"}}))),
                false,
                false,
            ),
            (
                Some(read(
                    json!({"matchExpressions": [{"key": "app", "operator": "Unheard"}]}),
                )),
                false,
                true,
            ),
            (
                Some(read(
                    json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}),
                )),
                true,
                false,
            ),
        ];
        for (selector, matches, empty) in table {
            let selects = Selects::of(selector.as_ref());
            assert_eq!(selects.matches(&labels), matches, "{selector:?}");
            assert_eq!(selects.is_empty(), empty, "{selector:?}");
        }
    }
}
