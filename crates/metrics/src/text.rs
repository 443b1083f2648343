//! Prometheus' text exposition format, read line by line without keeping anything.
//!
//! Source followed: the format's description in Prometheus' documentation (`exposition_formats`, text-based
//! format 0.0.4). Comments, `HELP` and `TYPE` lines are passed over. A malformed line is an error of its own and
//! does not spoil the others.

use std::borrow::Cow;

/// Longest line that is looked at, in bytes.
const LINE_MAX: usize = 64 * 1024;
/// Most labels of one sample.
const LABELS_MAX: usize = 64;

/// One sample; borrows from the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// Labels in the order written, values unescaped.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// The value; may be infinite or not a number.
    pub value: f64,
    /// Milliseconds since 1970, if given.
    pub timestamp_ms: Option<i64>,
}

impl Sample<'_> {
    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(label, _)| *label == name)
            .map(|(_, value)| value.as_ref())
    }
}

/// A line that is no sample.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the exposition is malformed: {problem}")]
pub struct LineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The samples of `text`, in order.
pub fn samples(text: &str) -> impl Iterator<Item = Result<Sample<'_>, LineError>> {
    text.split('\n').enumerate().filter_map(|(index, line)| {
        let line = line
            .strip_suffix('\r')
            .unwrap_or(line)
            .trim_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        Some(sample(line).map_err(|problem| LineError {
            line: index + 1,
            problem,
        }))
    })
}

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    if line.len() > LINE_MAX {
        return Err("it is longer than 64 KiB");
    }
    let end = line.find(|c: char| !is_name_char(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("it does not begin with a metric name");
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inner) => labels(inner)?,
        None => (Vec::new(), rest),
    };
    let mut fields = rest.split([' ', '\t']).filter(|field| !field.is_empty());
    let value =
        number(fields.next().ok_or("it has no value")?).ok_or("its value is not a number")?;
    let timestamp_ms = fields
        .next()
        .map(|field| {
            field
                .parse::<i64>()
                .map_err(|_| "its timestamp is not a whole number")
        })
        .transpose()?;
    if fields.next().is_some() {
        return Err("something follows the timestamp");
    }
    Ok(Sample {
        name,
        labels,
        value,
        timestamp_ms,
    })
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// Labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Result<(Labels<'_>, &str), &'static str> {
    let mut labels: Labels<'_> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        if labels.len() == LABELS_MAX {
            return Err("it has more than 64 labels");
        }
        let end = rest.find(|c: char| !is_name_char(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return Err("a label has no name");
        }
        let after = after.trim_start_matches([' ', '\t']);
        let after = after.strip_prefix('=').ok_or("a label has no value")?;
        let after = after.trim_start_matches([' ', '\t']);
        let after = after
            .strip_prefix('"')
            .ok_or("a label's value is not quoted")?;
        let (value, after) = quoted(after)?;
        labels.push((name, value));
        let after = after.trim_start_matches([' ', '\t']);
        rest = match after.strip_prefix(',') {
            Some(after) => after,
            None if after.starts_with('}') => after,
            None => return Err("labels are not separated by a comma"),
        };
    }
}

/// A quoted value after its opening quote, and what follows the closing one.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let mut unescaped: Option<String> = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let value = unescaped.map_or(Cow::Borrowed(&text[..at]), Cow::Owned);
                return Ok((value, &text[at + 1..]));
            }
            '\\' => {
                let value = unescaped.get_or_insert_with(|| text[..at].to_owned());
                match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => value.push(c),
                    // Prometheus keeps unknown escapes as they are.
                    Some((_, c)) => value.extend(['\\', c]),
                    None => break,
                }
            }
            c => {
                if let Some(value) = &mut unescaped {
                    value.push(c);
                }
            }
        }
    }
    Err("a label's value does not end")
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        // Rust reads words such as "infinity" too, Prometheus' format does not have them.
        text if text.contains(|c: char| c.is_ascii_alphabetic() && c != 'e' && c != 'E') => None,
        text => text.parse().ok(),
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> Result<Sample<'_>, LineError> {
        samples(line)
            .next()
            .expect("a line gives a sample or an error")
    }

    #[test]
    fn reads_a_kubelets_page() {
        let text = "# HELP container_cpu_usage_seconds_total Cumulative cpu time\n\
                    # TYPE container_cpu_usage_seconds_total counter\n\
                    container_cpu_usage_seconds_total{container=\"web\",namespace=\"default\",pod=\"web-0\"} 4.710169 1395066363000\n\
                    \n\
                    node_memory_working_set_bytes 1.616494592e+09\r\n";
        let all: Vec<Sample<'_>> = samples(text)
            .collect::<Result<_, _>>()
            .expect("all lines are samples");
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].label("pod"), Some("web-0"));
        assert_eq!(all[0].timestamp_ms, Some(1_395_066_363_000));
        assert!((all[0].value - 4.710_169).abs() < 1e-12);
        assert_eq!(
            (all[1].name, all[1].value, all[1].timestamp_ms),
            ("node_memory_working_set_bytes", 1_616_494_592.0, None)
        );
    }

    #[test]
    fn reads_what_the_format_allows() {
        assert_eq!(one("a{} 1").map(|s| s.labels.len()), Ok(0));
        assert_eq!(one("a{b=\"c\",} 1").map(|s| s.labels.len()), Ok(1));
        assert_eq!(
            one("a { b = \"c\" , d=\"e\" }  1  2 ").map(|s| s.labels.len()),
            Ok(2)
        );
        let escaped = one(r#"a{b="x\\y\"z\nw\q"} 1"#).expect("a sample");
        assert_eq!(escaped.label("b"), Some("x\\y\"z\nw\\q"));
        assert_eq!(one("a +Inf").map(|s| s.value), Ok(f64::INFINITY));
        assert_eq!(
            one("a -Inf -5").map(|s| (s.value, s.timestamp_ms)),
            Ok((f64::NEG_INFINITY, Some(-5)))
        );
        assert!(one("a NaN").is_ok_and(|s| s.value.is_nan()));
        assert_eq!(one("a 1e400").map(|s| s.value), Ok(f64::INFINITY));
    }

    #[test]
    fn refuses_what_it_does_not() {
        for line in [
            "1a 1",
            "{a=\"b\"} 1",
            "a",
            "a{",
            "a{b",
            "a{b=",
            "a{b=\"c",
            "a{b=\"c\\",
            "a{b=\"c\"",
            "a{b=\"c\"} ",
            "a{b=c} 1",
            "a{=\"c\"} 1",
            "a{b=\"c\" d=\"e\"} 1",
            "a{,} 1",
            "a one",
            "a 1 x",
            "a 1 2 3",
            "a 1 1.5",
            "a infinity",
            "a 0x10",
            "a 1 99999999999999999999",
            "é 1",
        ] {
            assert!(one(line).is_err(), "{line}");
        }
        assert!(one(&format!("a{{b=\"{}\"}} 1", "x".repeat(LINE_MAX))).is_err());
        let many: String = (0..100).map(|n| format!("l{n}=\"v\",")).collect();
        assert!(one(&format!("a{{{many}}} 1")).is_err());
    }

    #[test]
    fn a_bad_line_spoils_no_other() {
        let results: Vec<bool> = samples("a 1\n}{ 2\nb 3").map(|line| line.is_ok()).collect();
        assert_eq!(results, [true, false, true]);
        assert_eq!(
            samples("\n\nbad").next(),
            Some(Err(LineError {
                line: 3,
                problem: "it has no value"
            }))
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            samples(&text).for_each(drop);
        }

        #[test]
        fn never_panics_on_almost_samples(text in "[a-c0-9{}=\",\\\\ \n#.eE+é-]{0,120}") {
            samples(&text).for_each(drop);
        }

        #[test]
        fn what_is_written_is_read_back(value in any::<f64>(), label in "[^\\\\\"\n\r]{0,20}", at in any::<i64>()) {
            prop_assume!(value.is_finite());
            let text = format!("m{{l=\"{label}\"}} {value:e} {at}");
            let read = one(&text).expect("a sample");
            prop_assert_eq!(read.value, value);
            prop_assert_eq!(read.label("l"), Some(label.as_str()));
            prop_assert_eq!(read.timestamp_ms, Some(at));
        }
    }
}
