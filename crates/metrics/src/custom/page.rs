//! One pod's page, read as it arrives: never more of it in memory than a line and what is kept.

use std::collections::BTreeMap;

use super::dropped::{Dropped, Failure, Reason};
use super::health;
use super::key::Key;
use super::limits::Limits;
use crate::text::samples;

/// What a page says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The samples that are kept, all finite.
    pub samples: BTreeMap<Key, f64>,
    /// What was not kept.
    pub dropped: Dropped,
    /// Samples that the page had.
    pub seen: u64,
}

/// Reads a page in pieces of any length.
pub struct Reader<'a> {
    limits: &'a Limits,
    page: Page,
    /// The line that has begun; never longer than the limit.
    line: Vec<u8>,
    /// Whether the rest of a line that is too long is being passed over.
    passing_over: bool,
    bytes: usize,
}

impl<'a> Reader<'a> {
    /// Nothing read yet.
    pub fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            page: Page::default(),
            line: Vec::new(),
            passing_over: false,
            bytes: 0,
        }
    }

    /// Takes the next piece; refuses the page when it is too long.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(piece.len());
        if self.bytes > self.limits.page_bytes_max {
            return Err(Failure::TooLarge(self.limits.page_bytes_max));
        }
        let mut pieces = piece.split(|byte| *byte == b'\n');
        if let Some(first) = pieces.next() {
            self.append(first);
        }
        for next in pieces {
            self.end_line();
            self.append(next);
        }
        Ok(())
    }

    /// The page, after its last piece.
    pub fn finish(mut self) -> Page {
        self.end_line();
        self.page
    }

    fn append(&mut self, part: &[u8]) {
        if self.passing_over {
            return;
        }
        let room = self.limits.line_bytes_max - self.line.len();
        if part.len() <= room {
            self.line.extend_from_slice(part);
            return;
        }
        self.passing_over = true;
        let comment = self.line.first().or(part.first()) == Some(&b'#');
        self.line.clear();
        if !comment {
            self.drop_sample(Reason::TooLong);
        }
    }

    fn end_line(&mut self) {
        self.passing_over = false;
        let line = std::mem::take(&mut self.line);
        self.take(&line);
        self.line = line;
        self.line.clear();
    }

    fn take(&mut self, line: &[u8]) {
        if line.is_empty() || line[0] == b'#' {
            return;
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return self.drop_sample(Reason::Malformed);
        };
        let sample = match samples(text).next() {
            // nothing but blanks
            None => return,
            Some(Err(_)) => return self.drop_sample(Reason::Malformed),
            Some(Ok(sample)) => sample,
        };
        if !sample.value.is_finite() {
            return self.drop_sample(Reason::NotFinite);
        }
        if health::is_ours(sample.name) {
            return self.drop_sample(Reason::Reserved);
        }
        let key = match Key::new(sample.name, sample.labels, self.limits) {
            Ok(key) => key,
            Err(reason) => return self.drop_sample(reason),
        };
        if self.page.samples.contains_key(&key) {
            self.drop_sample(Reason::Duplicate);
        } else if self.page.samples.len() >= self.limits.series_per_pod_max {
            self.drop_sample(Reason::PodLimit);
        } else {
            self.page.samples.insert(key, sample.value);
            self.page.seen += 1;
        }
    }

    fn drop_sample(&mut self, reason: Reason) {
        self.page.seen += 1;
        self.page.dropped.add(reason);
    }
}

/// How many series of a page in pieces are kept; none of a page that is refused.
pub fn read_page(pieces: &[&[u8]], limits: &Limits) -> Option<usize> {
    let mut reader = Reader::new(limits);
    for piece in pieces {
        reader.feed(piece).ok()?;
    }
    Some(reader.finish().samples.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> Limits {
        Limits {
            page_bytes_max: 2000,
            line_bytes_max: 60,
            series_per_pod_max: 3,
            ..Limits::default()
        }
    }

    fn read(text: &[u8], limits: &Limits, piece: usize) -> Result<Page, Failure> {
        let mut reader = Reader::new(limits);
        for piece in text.chunks(piece) {
            reader.feed(piece)?;
        }
        Ok(reader.finish())
    }

    fn told(page: &Page) -> Vec<(&'static str, u64)> {
        page.dropped
            .iter()
            .map(|(reason, count)| (reason.text(), count))
            .collect()
    }

    #[test]
    fn every_way_to_be_dropped_is_counted() {
        let long = format!("long{{a=\"{}\"}} 1", "x".repeat(80));
        for (text, kept, dropped) in [
            ("", 0, vec![]),
            ("# HELP a b\n\n  \na 1\n", 1, vec![]),
            ("a 1", 1, vec![]),
            ("a 1\r\nb 2\r\n", 2, vec![]),
            ("a 1 1700000000000\n", 1, vec![]),
            ("a NaN\nb +Inf\nc -Inf\nd 1\n", 1, vec![("not_finite", 3)]),
            ("a 1\na 2\na{} 3\n", 1, vec![("duplicate", 2)]),
            ("a{x=\"1\"} 1\na{x=\"2\"} 2\n", 2, vec![]),
            ("up 1\nscrape_samples_scraped 3\n", 0, vec![("reserved", 2)]),
            ("{} 1\n<html>\na\n", 0, vec![("malformed", 3)]),
            ("a 1\nb 1\nc 1\nd 1\ne 1\n", 3, vec![("pod_limit", 2)]),
            (&format!("{long}\na 1\n"), 1, vec![("too_long", 1)]),
            (&format!("# {long}\na 1\n"), 1, vec![]),
            (&format!("# {long}\n{long}"), 0, vec![("too_long", 1)]),
        ] {
            for piece in [1, 3, 1000] {
                let page = read(text.as_bytes(), &limits(), piece).expect(text);
                assert_eq!(
                    (page.samples.len(), told(&page)),
                    (kept, dropped.clone()),
                    "{text}"
                );
                let lost: u64 = page.dropped.iter().map(|(_, count)| count).sum();
                assert_eq!(page.seen, kept as u64 + lost, "{text}");
            }
        }
        let page = read(b"a\xff 1\nb 1\n", &limits(), 7).expect("a page");
        assert_eq!(
            (page.samples.len(), told(&page)),
            (1, vec![("malformed", 1)])
        );
    }

    #[test]
    fn a_page_without_end_is_refused() {
        let limits = limits();
        let mut reader = Reader::new(&limits);
        let mut fed = 0;
        let failure = loop {
            match reader.feed(b"m{a=\"b\"} 1\n") {
                Ok(()) => fed += 1,
                Err(failure) => break failure,
            }
            assert!(fed < 1000, "it is read for ever");
        };
        assert_eq!(failure.reason(), "too_large");
        let endless_line = vec![b'x'; 1999];
        let page = read(&endless_line, &limits, 100).expect("a page");
        assert_eq!(told(&page), [("too_long", 1)]);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_whatever_pieces_the_bounds_hold(
            text in proptest::collection::vec(any::<u8>(), 0..1500),
            piece in 1usize..200,
        ) {
            let limits = limits();
            let page = read(&text, &limits, piece).expect("short enough");
            prop_assert_eq!(&page, &read(&text, &limits, 1500).expect("short enough"));
            prop_assert!(page.samples.len() <= limits.series_per_pod_max);
        }

        #[test]
        fn almost_pages_are_read_within_bounds(
            text in "([a-d]{1,3}(\\{[a-b]=\"[^\"\\\\]{0,9}\"(,c=\"é\")?\\})? (NaN|[-+]?[0-9]{1,4}(e[0-9]{1,3})?)\n|[ -~]{0,70}\n){0,20}",
            piece in 1usize..100,
        ) {
            let limits = limits();
            if let Ok(page) = read(text.as_bytes(), &limits, piece) {
                prop_assert!(page.samples.len() <= limits.series_per_pod_max);
                prop_assert!(page.samples.values().all(|value| value.is_finite()));
                prop_assert!(page.samples.keys().all(|key| key.bytes() <= limits.line_bytes_max));
            }
        }
    }
}
