//! The live picture: a table redrawn each second, and small charts of load and replicas. Without a terminal, a line a second.

use std::io::Write;

use super::watch::Sample;
use crate::load::Second;

const CHART: usize = 60;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const HEIGHT: usize = 7;

pub struct Screen {
    terminal: bool,
    drawn: bool,
    requests: Vec<f64>,
    replicas: Vec<f64>,
    seconds: u32,
}

impl Screen {
    pub fn new(terminal: bool) -> Self {
        Self {
            terminal,
            drawn: false,
            requests: Vec::new(),
            replicas: Vec::new(),
            seconds: 0,
        }
    }

    /// Draws one second.
    pub fn show(&mut self, sample: &Sample, load: Option<&Second>) {
        self.seconds += 1;
        self.requests
            .push(load.map_or(0.0, |second| second.answered as f64));
        self.replicas.push(f64::from(sample.ready));
        let cpu = sample
            .cpu_percent
            .map_or("–".into(), |percent| format!("{percent} %"));
        let (rate, p50, p99, failed) =
            load.map_or(("0".into(), "–".into(), "–".into(), 0), |second| {
                (
                    second.answered.to_string(),
                    format!("{:.0} ms", second.p50_ms),
                    format!("{:.0} ms", second.p99_ms),
                    second.failed,
                )
            });
        let mut out = std::io::stdout().lock();
        if !self.terminal {
            let _ = writeln!(
                out,
                "{:>3} s  wanted {:>2}  ready {:>2}  cpu {cpu:>6} of 80 %  requests/s {rate:>4}  failed {failed}  p50 {p50:>7}  p99 {p99:>7}",
                self.seconds, sample.wanted, sample.ready
            );
            return;
        }
        // a line that the terminal wraps would spoil the count of lines to go back
        let width =
            crate::container::terminal_size().map_or(80, |(columns, _)| usize::from(columns));
        if self.drawn {
            let _ = write!(out, "\x1b[{HEIGHT}A");
        }
        self.drawn = true;
        for line in [
            "  replicas wanted   ready   CPU against target   requests/s   failed       p50       p99".to_owned(),
            format!(
                "  {:>15}   {:>5}   {:>18}   {rate:>10}   {failed:>6}   {p50:>7}   {p99:>7}",
                sample.wanted,
                sample.ready,
                format!("{cpu} / 80 %"),
            ),
            String::new(),
            format!("  load      {}", chart(&self.requests)),
            format!("  replicas  {}", chart(&self.replicas)),
            format!("  {}", sample.decisions.last().cloned().unwrap_or_default()),
            String::new(),
        ] {
            let _ = writeln!(out, "\x1b[2K{}", cut(&line, width));
        }
        let _ = out.flush();
    }

    /// Leaves the last picture standing.
    pub fn end(&mut self) {
        if !self.terminal {
            println!(
                "\n  load      {}\n  replicas  {}",
                chart(&self.requests),
                chart(&self.replicas)
            );
        }
    }
}

/// The line, ending in … where it is longer than the terminal is wide.
fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars()
        .take(width.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// The last values as blocks between zero and their maximum.
fn chart(values: &[f64]) -> String {
    let shown = &values[values.len().saturating_sub(CHART)..];
    let most = shown.iter().copied().fold(0.0, f64::max);
    let block = |value: f64| {
        let level = if most > 0.0 {
            (value / most * 7.0).round() as usize
        } else {
            0
        };
        BLOCKS[level.min(7)]
    };
    format!(
        "{}  (0–{most:.0})",
        shown.iter().map(|value| block(*value)).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut() {
        assert_eq!(cut("replicas", 8), "replicas");
        assert_eq!(cut("→→→→", 3), "→→…");
    }

    #[test]
    fn charts() {
        assert_eq!(chart(&[0.0, 5.0, 10.0]), "▁▅█  (0–10)");
        assert_eq!(chart(&[]), "  (0–0)");
        assert_eq!(
            chart(&vec![1.0; 100]).chars().filter(|c| *c == '█').count(),
            CHART
        );
    }
}
