//! A measured number beside the bar it is held to.

use serde_json::{Value, json};

/// What a figure must reach.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    bar: Option<Bar>,
}

impl Figure {
    /// A number without a bar: a peer's, or a part of another.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { name: name.into(), value, unit, bar: None }
    }

    /// The same with a bar.
    pub fn bar(self, bar: Bar) -> Figure {
        Figure { bar: Some(bar), ..self }
    }

    fn holds(&self) -> Option<bool> {
        self.bar.map(|bar| match bar {
            Bar::AtLeast(least) => self.value >= least,
            Bar::AtMost(most) => self.value <= most,
        })
    }

    /// A row of a Markdown table.
    pub fn row(&self) -> String {
        let bar = match self.bar {
            None => String::new(),
            Some(Bar::AtLeast(least)) => format!(">= {}", plain(least)),
            Some(Bar::AtMost(most)) => format!("<= {}", plain(most)),
        };
        let verdict = match self.holds() {
            None => "",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        format!("| {} | {} {} | {bar} | {verdict} |", self.name, plain(self.value), self.unit)
    }

    /// A line of JSON.
    pub fn json(&self) -> Value {
        let (at_least, at_most) = match self.bar {
            Some(Bar::AtLeast(least)) => (Some(least), None),
            Some(Bar::AtMost(most)) => (None, Some(most)),
            None => (None, None),
        };
        json!({
            "name": self.name, "value": self.value, "unit": self.unit,
            "at_least": at_least, "at_most": at_most, "holds": self.holds(),
        })
    }
}

/// Three digits that count, and no more.
fn plain(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// The value below which a share of the sorted samples lies.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(((last as f64) * share).round() as usize).copied().unwrap_or(f64::NAN)
}
