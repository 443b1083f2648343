//! Sets of indexes as text: `0-3,7`.

/// How many indexes the text names; all must be below `completions`.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut total, mut last) = (0, None);
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!(
                "non-increasing order, previous: {last}, current: {first}"
            ));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let number = |text: &str| -> Result<i64, String> {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions {
            return Err(format!("too large index: {text:?}"));
        }
        Ok(number)
    };
    let parts: Vec<&str> = text.split('-').collect();
    match parts.as_slice() {
        [one] => number(one).map(|number| (number, number)),
        [first, last] => {
            let (first, last) = (number(first)?, number(last)?);
            if first >= last {
                return Err(format!(
                    "non-increasing order, previous: {first}, current: {last}"
                ));
            }
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn indexes_are_counted_or_refused() {
        for (text, expected) in [("", 0), ("0", 1), ("0,2", 2), ("0-3,5,7-8", 7)] {
            assert_eq!(count(text, 10), Ok(expected), "{text}");
        }
        for (text, why) in [
            ("x", "cannot convert string to integer for index: \"x\""),
            ("0,,1", "cannot convert string to integer for index: \"\""),
            ("10", "too large index: \"10\""),
            ("8-10", "too large index: \"10\""),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
            ("5,4", "non-increasing order, previous: 5, current: 4"),
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
        ] {
            assert_eq!(count(text, 10), Err(why.to_owned()), "{text}");
        }
    }
}
