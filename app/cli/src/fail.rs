//! One renderer for everything that can go wrong: what was tried, why it failed, what to do about it.
//!
//! Failures of the local API carry a code; the message files may say it better in the reader's language.

use glean_node::api::types::ApiError;

use crate::lang::Lang;
use crate::ui::{Ui, arg};

/// `glean` itself failed, as docker counts.
pub const EXIT_TOOL: u8 = 125;
/// A person pressed Ctrl-C.
pub const EXIT_INTERRUPTED: u8 = 130;

/// A failure with a code, a cause and a way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Fail(pub ApiError);

impl Fail {
    /// A failure of ours: `code` names its sentences `error-CODE` and `error-CODE.hint`.
    pub fn new(code: &str, detail: impl Into<String>) -> Fail {
        Fail(ApiError { code: code.into(), message: detail.into(), hint: None })
    }
}

/// What a person reads on stderr.
pub fn render(ui: &Ui, error: &anyhow::Error) -> String {
    let fail = error.chain().find_map(|cause| cause.downcast_ref::<Fail>()).map(|fail| &fail.0);
    let (text, mut hint) = match fail {
        Some(api) => (say_api(ui, api), hint_api(ui, api)),
        None => (String::new(), None),
    };
    let mut lines = Vec::new();
    for cause in error.chain() {
        let said = if cause.is::<Fail>() { text.clone() } else { cause.to_string() };
        // Errors below the API write their hint as a last line.
        let (said, below) = match said.split_once("\nhint: ") {
            Some((said, below)) => (said.to_owned(), Some(below.to_owned())),
            None => (said, None),
        };
        hint = hint.or(below);
        if !lines.iter().any(|line: &String| line.contains(&said)) {
            lines.push(said);
        }
    }
    let mut all = format!("{} {}", ui.red(&ui.text("word-error", &[])), lines.join("\n  "));
    if let Some(hint) = hint {
        all += &format!("\n{} {hint}", ui.yellow(&ui.text("word-hint", &[])));
    }
    all
}

/// The same as JSON, for `--json`.
pub fn as_json(error: &anyhow::Error) -> ApiError {
    match error.chain().find_map(|cause| cause.downcast_ref::<Fail>()) {
        Some(fail) => fail.0.clone(),
        None => ApiError { code: "failed".into(), message: format!("{error:#}"), hint: None },
    }
}

fn key(api: &ApiError) -> String {
    format!("error-{}", api.code.replace('_', "-"))
}

fn say_api(ui: &Ui, api: &ApiError) -> String {
    let args = [arg("detail", api.message.clone())];
    ui.messages.find(&key(api), &args).unwrap_or_else(|| api.message.clone())
}

/// English: the API's own hint knows more. Otherwise the message file's is the one that can be read.
fn hint_api(ui: &Ui, api: &ApiError) -> Option<String> {
    let ours = ui.messages.find(&format!("{}.hint", key(api)), &[arg("detail", api.message.clone())]);
    match ui.messages.lang {
        Lang::En => api.hint.clone().or(ours),
        Lang::Zh => ours.or_else(|| api.hint.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    fn ui(lang: Lang) -> Ui {
        Ui::new(lang, false, true, true)
    }

    fn poor() -> ApiError {
        ApiError {
            code: "insufficient_balance".into(),
            message: "the job needs 2 gUSD, 1.5 are missing".into(),
            hint: Some("glean wallet faucet".into()),
        }
    }

    #[test]
    fn says_what_was_tried_then_why_then_the_way_out() {
        let error = Err::<(), _>(Fail(poor())).context("could not hand in the job").unwrap_err();
        let text = render(&ui(Lang::En), &error);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "error: could not hand in the job");
        assert!(lines[1].contains("1.5 are missing"), "{text}");
        assert_eq!(lines[2], "hint: glean wallet faucet");
    }

    #[test]
    fn chinese_readers_get_chinese_with_the_facts_kept() {
        let text = render(&ui(Lang::Zh), &Fail(poor()).into());
        assert!(text.starts_with("错误") && text.contains("余额") && text.contains("1.5 are missing"), "{text}");
        assert!(text.contains("提示"), "{text}");
    }

    #[test]
    fn a_hint_from_below_is_moved_to_the_end() {
        let error = anyhow::anyhow!("disk full\nhint: make room").context("could not write x");
        let text = render(&ui(Lang::En), &error);
        assert_eq!(text, "error: could not write x\n  disk full\nhint: make room");
    }
}
