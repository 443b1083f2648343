//! The rules of a schema, read once: where they are, and what they say.

use std::collections::BTreeMap;

use kube_cel::cel::IdedExpr;
use kube_cel::cel::parser::Parser;
use serde_json::Value;

use super::{KEY, cost};

/// A place of a schema that has rules, or has places beneath it that have.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub rules: Vec<Rule>,
    pub properties: BTreeMap<String, Place>,
    /// Of entries that are no properties.
    pub entries: Option<Box<Place>>,
    pub items: Option<Box<Place>>,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub text: String,
    pub program: IdedExpr,
    /// What is said of a value that breaks it: by an expression, or as it is, or by the rule itself.
    pub message: Option<String>,
    pub message_program: Option<IdedExpr>,
    pub reason: Option<String>,
    /// Of what it is said, beneath the place.
    pub field: Option<String>,
    /// Whether it looks at what was before.
    pub compares: bool,
    /// Whether what was before may be missing.
    pub optional: bool,
    /// How deep its loops nest.
    pub loops: u32,
}

/// Reads an expression as upstream's environment does, with optional syntax (`self.?a`).
pub(super) fn parse(text: &str) -> Result<IdedExpr, String> {
    let parser = Parser::default().enable_optional_syntax(true);
    parser.parse(text).map_err(|error| error.to_string())
}

impl Place {
    /// Reads the rules of a schema; `None` when it has none.
    pub fn read(written: &Value) -> Option<Self> {
        let below = |key: &str| Self::read(&written[key]).map(Box::new);
        let properties = written["properties"].as_object().into_iter().flatten();
        let mut place = Self {
            rules: Rule::all(written),
            properties: properties
                .filter_map(|(name, property)| Some((name.clone(), Self::read(property)?)))
                .collect(),
            entries: below("additionalProperties"),
            items: below("items"),
        };
        // what alternatives say of the same value
        for key in ["allOf", "anyOf", "oneOf"] {
            for branch in written[key].as_array().into_iter().flatten() {
                if let Some(branch) = Self::read(branch) {
                    place.add(branch);
                }
            }
        }
        (!place.is_empty()).then_some(place)
    }

    fn is_empty(&self) -> bool {
        self.rules.is_empty()
            && self.properties.is_empty()
            && self.entries.is_none()
            && self.items.is_none()
    }

    fn add(&mut self, other: Self) {
        self.rules.extend(other.rules);
        for (name, property) in other.properties {
            self.properties.entry(name).or_default().add(property);
        }
        for (own, other) in [
            (&mut self.entries, other.entries),
            (&mut self.items, other.items),
        ] {
            if let Some(other) = other {
                own.get_or_insert_default().add(*other);
            }
        }
    }

    /// What a member is put to.
    pub fn member(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.entries.as_deref())
    }
}

impl Rule {
    /// The rules at one place; those that cannot be read (definitions with such are refused) are none.
    fn all(written: &Value) -> Vec<Self> {
        let rules = written[KEY].as_array().into_iter().flatten();
        rules.filter_map(Self::read).collect()
    }

    fn read(written: &Value) -> Option<Self> {
        let text = |key: &str| written[key].as_str().map(str::to_owned);
        let rule = text("rule")?;
        let program = parse(&rule).ok()?;
        Some(Self {
            compares: program.references().has_variable("oldSelf"),
            loops: cost::loops(&program, &rule),
            message: text("message").filter(|message| !message.is_empty()),
            message_program: text("messageExpression").and_then(|message| parse(&message).ok()),
            reason: text("reason"),
            field: text("fieldPath").filter(|field| !field.is_empty()),
            optional: written["optionalOldSelf"] == true,
            text: rule,
            program,
        })
    }

    /// Beneath `path`.
    pub fn place(&self, path: &str) -> String {
        let Some(field) = &self.field else {
            return path.to_owned();
        };
        format!("{path}.{}", field.trim_start_matches('.'))
            .trim_start_matches('.')
            .to_owned()
    }
}
