//! The terminal: data on stdout, talk on stderr, and nothing that moves or is coloured off a terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use fluent::FluentValue;
use glean_types::Amount;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use crate::lang::{Arg, Lang, Messages};
use crate::text;

/// How this call of `glean` speaks.
pub struct Ui {
    /// Sentences.
    pub messages: Messages,
    /// `--json`: data is JSON.
    pub json: bool,
    /// `--quiet`: no talk.
    pub quiet: bool,
    /// Whether a person is there to be asked.
    pub can_ask: bool,
    /// Whether stderr may move and be coloured.
    pub lively: bool,
}

impl Ui {
    /// Looks at the terminal once.
    pub fn new(lang: Lang, json: bool, quiet: bool, no_input: bool) -> Ui {
        let env = |name: &str| std::env::var(name).unwrap_or_default();
        let plain = !env("NO_COLOR").is_empty() || env("TERM") == "dumb";
        Ui {
            messages: Messages::new(lang),
            json,
            quiet,
            can_ask: !no_input && io::stdin().is_terminal() && io::stderr().is_terminal(),
            lively: io::stderr().is_terminal() && !plain && !quiet,
        }
    }

    /// A sentence.
    pub fn text(&self, key: &str, args: &[Arg]) -> String {
        self.messages.text(key, args)
    }

    /// Talk.
    pub fn say(&self, sentence: &str) {
        if !self.quiet {
            eprintln!("{sentence}");
        }
    }

    /// Talk by key, without values.
    pub fn tell(&self, key: &str) {
        self.say(&self.text(key, &[]));
    }

    /// Talk about something that is done.
    pub fn done(&self, sentence: &str) {
        self.say(&format!(" {} {sentence}", self.green("✓")));
    }

    /// Green on a terminal.
    pub fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Red on a terminal.
    pub fn red(&self, text: &str) -> String {
        self.paint("31", text)
    }

    /// Yellow on a terminal.
    pub fn yellow(&self, text: &str) -> String {
        self.paint("33", text)
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.lively { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// One line of data.
    pub fn out(&self, line: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{line}")
    }

    /// Bytes of data, as they are.
    pub fn out_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// One line of JSON data.
    pub fn out_json<T: Serialize + ?Sized>(&self, value: &T) -> io::Result<()> {
        self.out(&serde_json::to_string(value).expect("our types have plain keys"))
    }

    /// JSON when asked for, else what `human` writes.
    pub fn answer<T: Serialize + ?Sized>(&self, value: &T, human: impl FnOnce(&T) -> String) -> io::Result<()> {
        if self.json { self.out_json(value) } else { self.out(human(value).trim_end()) }
    }

    /// A progress bar of that many steps; invisible off a terminal.
    pub fn bar(&self, steps: u64) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(steps), self.target());
        let style = ProgressStyle::with_template("   {pos}/{len} {bar:28.green} {percent:>3} %  {elapsed}  {msg}");
        bar.set_style(style.expect("a constant template").progress_chars("━╸─"));
        bar
    }

    /// A spinner with a sentence; invisible off a terminal.
    pub fn spinner(&self, sentence: String) -> ProgressBar {
        let spinner = ProgressBar::with_draw_target(None, self.target());
        spinner.set_style(ProgressStyle::with_template(" {spinner} {msg}").expect("a constant template"));
        spinner.set_message(sentence);
        if self.lively {
            spinner.enable_steady_tick(Duration::from_millis(100));
        }
        spinner
    }

    fn target(&self) -> ProgressDrawTarget {
        if self.lively { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
    }

    /// Asks, with a default for an empty answer (or when nobody is there).
    pub fn ask(&self, question: &str, default: &str) -> io::Result<String> {
        if !self.can_ask {
            return Ok(default.to_owned());
        }
        eprint!("{question} [{default}]: ");
        io::stderr().flush()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        let answer = line.trim();
        Ok(if answer.is_empty() { default } else { answer }.to_owned())
    }

    /// A duration as people say it: `450 ms`, `4.2 s`, `3m 10s`, `1h 3m`, `2d 1h`.
    pub fn duration(ms: u64) -> String {
        let (seconds, minutes) = (ms / 1000, ms / 60_000);
        match seconds {
            _ if ms < 1000 => format!("{ms} ms"),
            0..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
            60..3600 => format!("{minutes}m {}s", seconds % 60),
            3600..86_400 => format!("{}h {}m", minutes / 60, minutes % 60),
            _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
        }
    }

    /// Money with four digits that matter: `12.3456`, `0.001283`. Rounded down; JSON has every digit.
    pub fn money(amount: Amount) -> String {
        let full = amount.to_string();
        let Some((whole, rest)) = full.split_once('.') else { return full };
        let zeros = if whole == "0" { rest.bytes().take_while(|digit| *digit == b'0').count() } else { 0 };
        let kept = rest[..rest.len().min(zeros + 4)].trim_end_matches('0');
        if kept.is_empty() { whole.to_owned() } else { format!("{whole}.{kept}") }
    }

    /// How long ago that Unix time was.
    pub fn age(&self, at_ms: u64) -> String {
        text!(self, "ago", time = Ui::duration(now_ms().saturating_sub(at_ms)))
    }
}

impl Ui {
    /// A table whose columns line up in any script. Numbers go to the right.
    pub fn table(&self, heads: &[&str], rows: &[Vec<String>]) -> String {
        let heads: Vec<String> = heads.iter().map(|key| self.text(key, &[])).collect();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).chain(heads.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| {
                let pad = " ".repeat(width - cell.width());
                let is_number = cell.starts_with(|c: char| c.is_ascii_digit()) && !cell.contains('/');
                if is_number { format!("{pad}{cell}") } else { format!("{cell}{pad}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        std::iter::once(&heads).chain(rows).map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// A value for a sentence.
pub fn arg<'a>(name: &'static str, value: impl Into<FluentValue<'a>>) -> Arg<'a> {
    (name, value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_speech() {
        let said = [450, 4_230, 190_000, 3_780_000, 176_400_000].map(Ui::duration);
        assert_eq!(said, ["450 ms", "4.2 s", "3m 10s", "1h 3m", "2d 1h"]);
    }

    #[test]
    fn money_keeps_the_digits_that_matter() {
        let said = ["3", "12.3456789", "0.0012839999", "0.5", "1.00001"].map(|text| Ui::money(text.parse().unwrap()));
        assert_eq!(said, ["3", "12.3456", "0.001283", "0.5", "1"]);
    }

    #[test]
    fn columns_line_up_whatever_the_script() {
        let ui = Ui::new(Lang::Zh, false, true, true);
        let rows = vec![vec!["路径".into(), "7".into()], vec!["ab".into(), "12".into()]];
        let table = ui.table(&["head-name", "head-tasks"], &rows);
        let ends: Vec<usize> = table.lines().map(|line| line.width()).collect();
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{table}");
    }
}
