//! Sets of field paths, and their text form `FieldsV1` (structured-merge-diff's `fieldpath.Set`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of paths, as a tree. A path element is written as `FieldsV1` writes it: `f:spec`, `k:{"name":"web"}`,
/// `v:"item"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// The path that leads here is in the set itself.
    pub member: bool,
    pub children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    /// The subtree of an element, made when missing.
    pub fn child(&mut self, element: String) -> &mut FieldSet {
        self.children.entry(element).or_default()
    }

    /// Drops subtrees that hold no path.
    pub fn tidy(&mut self) {
        self.children.retain(|_, child| {
            child.tidy();
            child.member || !child.children.is_empty()
        });
    }

    pub fn add(&mut self, other: &FieldSet) {
        self.member |= other.member;
        for (element, theirs) in &other.children {
            self.child(element.clone()).add(theirs);
        }
    }

    /// Takes out the paths of `other`; what lies beneath them stays.
    pub fn subtract(&mut self, other: &FieldSet) {
        self.member &= !other.member;
        for (element, theirs) in &other.children {
            if let Some(ours) = self.children.get_mut(element) {
                ours.subtract(theirs);
            }
        }
        self.tidy();
    }

    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut both = FieldSet {
            member: self.member && other.member,
            ..FieldSet::default()
        };
        for (element, ours) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                both.children
                    .insert(element.clone(), ours.intersection(theirs));
            }
        }
        both.tidy();
        both
    }

    /// Every path as conflicts name it: `.spec.containers[name="web"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, path: &str, out: &mut Vec<String>) {
        if self.member && !path.is_empty() {
            out.push(path.to_owned());
        }
        for (element, child) in &self.children {
            child.collect(&format!("{path}{}", element_text(element)), out);
        }
    }

    pub fn to_value(&self) -> Value {
        let mut out = Map::new();
        if self.member && !self.children.is_empty() {
            out.insert(".".into(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            out.insert(element.clone(), child.to_value());
        }
        Value::Object(out)
    }

    /// `None` when it is not `FieldsV1`.
    pub fn from_value(value: &Value) -> Option<Self> {
        let mut set = Self::default();
        let object = value.as_object()?;
        set.member = object.is_empty();
        for (element, child) in object {
            if element == "." {
                set.member = true;
                continue;
            }
            if !["f:", "k:", "v:", "i:"]
                .iter()
                .any(|p| element.starts_with(p))
            {
                return None;
            }
            set.children
                .insert(element.clone(), Self::from_value(child)?);
        }
        Some(set)
    }
}

fn element_text(element: &str) -> String {
    let (form, text) = element.split_at(2.min(element.len()));
    match form {
        "f:" => format!(".{text}"),
        "k:" => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(text).unwrap_or_default();
            let keys: Vec<_> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", keys.join(","))
        }
        "v:" => format!("[={text}]"),
        _ => format!("[{text}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(value: Value) -> FieldSet {
        FieldSet::from_value(&value).expect("a set")
    }

    #[test]
    fn the_text_form_is_read_and_written() {
        let text = json!({"f:a": {}, "f:l": {"k:{\"name\":\"x\",\"port\":1}": {".": {}, "f:i": {}}, "v:\"s\"": {}}});
        assert_eq!(set(text.clone()).to_value(), text);
        assert_eq!(
            set(text).paths(),
            [
                ".a",
                ".l[name=\"x\",port=1]",
                ".l[name=\"x\",port=1].i",
                ".l[=\"s\"]"
            ]
        );
        for wrong in [
            json!(1),
            json!({"a": {}}),
            json!({"f:a": 1}),
            json!({"f:a": {"é": {}}}),
        ] {
            assert_eq!(FieldSet::from_value(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn set_algebra() {
        let a = json!({"f:x": {".": {}, "f:y": {}}, "f:z": {}});
        let b = json!({"f:x": {"f:y": {}}, "f:w": {}});
        let mut difference = set(a.clone());
        difference.subtract(&set(b.clone()));
        assert_eq!(difference.to_value(), json!({"f:x": {}, "f:z": {}}));
        assert_eq!(
            set(a.clone()).intersection(&set(b.clone())).to_value(),
            json!({"f:x": {"f:y": {}}})
        );
        let mut union = set(a);
        union.add(&set(b));
        assert_eq!(
            union.to_value(),
            json!({"f:w": {}, "f:x": {".": {}, "f:y": {}}, "f:z": {}})
        );
    }
}
