//! What tells one series from another: a name and labels, in one allocation.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;

use super::dropped::Reason;
use super::limits::Limits;

/// Ends every part; no label may hold it.
const END: char = '\0';

/// A metric's name and its labels in alphabetical order. Ordered by name first, so that the series of a name lie together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// The key of a sample, if it is within the limits. A label without a value is the same as none.
    pub fn new(
        name: &str,
        mut labels: Vec<(&str, Cow<'_, str>)>,
        limits: &Limits,
    ) -> Result<Self, Reason> {
        labels.retain(|(_, value)| !value.is_empty());
        if labels.len() > limits.labels_max {
            return Err(Reason::TooManyLabels);
        }
        let long = |(label, value): &(&str, Cow<'_, str>)| {
            label.len() > limits.name_bytes_max || value.len() > limits.value_bytes_max
        };
        if name.len() > limits.name_bytes_max || labels.iter().any(long) {
            return Err(Reason::TooLong);
        }
        labels.sort_unstable_by_key(|(label, _)| *label);
        let twice = labels.windows(2).any(|pair| pair[0].0 == pair[1].0);
        if twice || labels.iter().any(|(_, value)| value.contains(END)) {
            return Err(Reason::Malformed);
        }
        Ok(Self::of(
            name,
            labels.iter().map(|(label, value)| (*label, &**value)),
        ))
    }

    /// The key of a series of our own.
    pub fn of<'a>(name: &str, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = Self::start(name);
        for (label, value) in labels {
            text.extend([label, "\0", value, "\0"]);
        }
        Self(text.into())
    }

    /// What all keys of a name begin with.
    pub fn start(name: &str) -> String {
        format!("{name}{END}")
    }

    /// The metric's name.
    pub fn name(&self) -> &str {
        self.0.split(END).next().unwrap_or_default()
    }

    /// Its labels, in alphabetical order.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut parts = self.0.split(END).skip(1);
        std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
    }

    /// One label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels()
            .find(|(label, _)| *label == name)
            .map(|(_, value)| value)
    }

    /// The labels as a map.
    pub fn label_map(&self) -> BTreeMap<String, String> {
        self.labels()
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .collect()
    }

    /// Bytes of the text.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, labels: &[(&'static str, &str)]) -> Result<Key, Reason> {
        let labels = labels
            .iter()
            .map(|(label, value)| (*label, Cow::Owned((*value).to_owned())));
        Key::new(name, labels.collect(), &Limits::default())
    }

    #[test]
    fn the_order_of_labels_does_not_matter() {
        let one = key("a", &[("x", "1"), ("b", "2"), ("none", "")]).expect("a key");
        assert_eq!(Ok(&one), key("a", &[("b", "2"), ("x", "1")]).as_ref());
        assert_eq!(one.name(), "a");
        assert_eq!(one.labels().collect::<Vec<_>>(), [("b", "2"), ("x", "1")]);
        assert_eq!((one.label("x"), one.label("none")), (Some("1"), None));
        assert_eq!(key("a", &[]).expect("a key").labels().count(), 0);
    }

    #[test]
    fn what_is_beyond_the_limits_is_refused() {
        let long = "x".repeat(2000);
        let names: Vec<String> = (0..40).map(|n| format!("l{n:02}")).collect();
        let many = names
            .iter()
            .map(|name| (name.as_str(), Cow::Borrowed("v")))
            .collect();
        assert_eq!(
            Key::new("a", many, &Limits::default()),
            Err(Reason::TooManyLabels)
        );
        assert_eq!(key(&long, &[]), Err(Reason::TooLong));
        assert_eq!(key("a", &[("x", &long)]), Err(Reason::TooLong));
        assert_eq!(key("a", &[("x", "1"), ("x", "2")]), Err(Reason::Malformed));
        assert_eq!(key("a", &[("x", "1\0 2")]), Err(Reason::Malformed));
    }
}
