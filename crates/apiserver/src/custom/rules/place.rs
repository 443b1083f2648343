//! The rules of a schema, read once: where they are, and what they say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::parse::{Expression, parse};
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
    pub program: Expression,
    /// What is said of a value that breaks it: by an expression, or as it is, or by the rule itself.
    pub message: Option<String>,
    pub message_program: Option<Expression>,
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

impl Place {
    /// Reads the rules of a schema; `None` when it has none.
    pub fn read(written: &Value) -> Option<Self> {
        // `additionalProperties: true`, or nothing
        written.as_object()?;
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

    /// Whether some expression needs a stack of its own.
    pub fn is_deep(&self) -> bool {
        let below = [self.entries.as_deref(), self.items.as_deref()];
        self.rules.iter().any(Rule::is_deep)
            || self.properties.values().any(Self::is_deep)
            || below.into_iter().flatten().any(Self::is_deep)
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
            compares: program.program.references().has_variable("oldSelf"),
            loops: cost::loops(&program.program, &rule),
            message: text("message").filter(|message| !message.is_empty()),
            message_program: text("messageExpression").and_then(|message| parse(&message).ok()),
            reason: text("reason"),
            field: text("fieldPath").filter(|field| !field.is_empty()),
            optional: written["optionalOldSelf"] == true,
            text: rule,
            program,
        })
    }

    fn is_deep(&self) -> bool {
        self.program.deep || self.message_program.as_ref().is_some_and(|it| it.deep)
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
