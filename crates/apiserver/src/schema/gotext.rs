//! Text as Go writes it, for errors that scripts compare: quoted strings, type names, times.

use std::fmt::Write;

/// `strconv.Quote`.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A type of the table as `reflect.Type.String` prints it: `[]core/v1.Volume` is `[]v1.Volume`.
pub(crate) fn type_name(go_type: &str) -> String {
    let mut out = String::with_capacity(go_type.len());
    let mut word = 0;
    let text = go_type.trim_start_matches('*');
    for (at, c) in text.char_indices() {
        match c {
            '/' => word = at + 1,
            '[' | ']' | '*' => {
                out.push_str(&text[word..=at]);
                word = at + 1;
            }
            _ => {}
        }
    }
    out.push_str(&text[word..]);
    out
}

/// The layouts that `metav1.Time` and `metav1.MicroTime` read.
const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// `time.Parse`'s complaint about a time, or nothing when it is one.
pub(crate) fn time_error(text: &str, micros: bool) -> Option<String> {
    let layout = if micros { MICROS } else { SECONDS };
    parse_time(text, micros).err().map(|problem| match problem {
        TimeProblem::At(rest, element) => {
            format!(
                "parsing time {} as {}: cannot parse {} as {}",
                quote(text),
                quote(layout),
                quote(rest),
                quote(element)
            )
        }
        TimeProblem::Extra(rest) => {
            format!("parsing time {}: extra text: {}", quote(text), quote(rest))
        }
        TimeProblem::Range(what) => format!("parsing time {}: {what} out of range", quote(text)),
    })
}

enum TimeProblem<'a> {
    At(&'a str, &'static str),
    Extra(&'a str),
    Range(&'static str),
}

fn parse_time(text: &str, micros: bool) -> Result<(), TimeProblem<'_>> {
    let mut rest = text;
    let year = number(&mut rest, 4, "2006")?;
    literal(&mut rest, "-")?;
    let month = number(&mut rest, 2, "01")?;
    if !(1..=12).contains(&month) {
        return Err(TimeProblem::Range("month"));
    }
    literal(&mut rest, "-")?;
    let day = number(&mut rest, 2, "02")?;
    literal(&mut rest, "T")?;
    for (element, what, limit, after) in [
        ("15", "hour", 24, ":"),
        ("04", "minute", 60, ":"),
        ("05", "second", 60, ""),
    ] {
        if number(&mut rest, 2, element)? >= limit {
            return Err(TimeProblem::Range(what));
        }
        literal(&mut rest, after)?;
    }
    let digits = rest
        .strip_prefix(['.', ','])
        .map_or(0, |f| f.bytes().take_while(u8::is_ascii_digit).count());
    if micros && digits < 6 {
        return Err(TimeProblem::At(rest, ".000000"));
    }
    if digits > 0 {
        rest = &rest[1 + if micros { 6 } else { digits }..];
    }
    zone(&mut rest)?;
    if !rest.is_empty() {
        return Err(TimeProblem::Extra(rest));
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day < 1 || day > days {
        Err(TimeProblem::Range("day"))
    } else {
        Ok(())
    }
}

fn number<'a>(
    rest: &mut &'a str,
    digits: usize,
    element: &'static str,
) -> Result<u32, TimeProblem<'a>> {
    let found = rest
        .get(..digits)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let value = found
        .and_then(|text| text.parse().ok())
        .ok_or(TimeProblem::At(rest, element))?;
    *rest = &rest[digits..];
    Ok(value)
}

fn literal<'a>(rest: &mut &'a str, text: &'static str) -> Result<(), TimeProblem<'a>> {
    *rest = rest.strip_prefix(text).ok_or(TimeProblem::At(rest, text))?;
    Ok(())
}

fn zone<'a>(rest: &mut &'a str) -> Result<(), TimeProblem<'a>> {
    if let Some(after) = rest.strip_prefix('Z') {
        *rest = after;
        return Ok(());
    }
    let bytes = rest.as_bytes();
    let shaped = bytes.len() >= 6
        && matches!(bytes[0], b'+' | b'-')
        && bytes[3] == b':'
        && [1, 2, 4, 5].iter().all(|at| bytes[*at].is_ascii_digit());
    if !shaped {
        return Err(TimeProblem::At(rest, "Z07:00"));
    }
    let offset = |at: usize| u32::from(bytes[at] - b'0') * 10 + u32::from(bytes[at + 1] - b'0');
    if offset(1) > 24 {
        return Err(TimeProblem::Range("time zone offset hour"));
    }
    if offset(4) > 60 {
        return Err(TimeProblem::Range("time zone offset minute"));
    }
    *rest = &rest[6..];
    Ok(())
}
