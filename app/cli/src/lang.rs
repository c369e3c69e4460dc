//! What people read, in their language: English and Chinese from the same Fluent files.
//!
//! No sentence for people is written in the code; it is looked up here by key. Program output (`--json`,
//! a task's bytes) never passes through. The tests below keep both files complete and free of dead keys.

use fluent::{FluentArgs, FluentBundle, FluentResource, FluentValue};
use unic_langid::{LanguageIdentifier, langid};

const ENGLISH: &str = include_str!("../locales/en/cli.ftl");
const CHINESE: &str = include_str!("../locales/zh-CN/cli.ftl");

/// A language we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    /// English.
    En,
    /// Simplified Chinese.
    Zh,
}

impl Lang {
    /// The flag's choice, else the environment's, else English.
    pub fn choose(flag: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Lang {
        let set = |name: &&str| env(name).filter(|value| !value.is_empty());
        let wanted = flag.map(str::to_owned).or_else(|| {
            let names = ["GLEAN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"];
            names.iter().find_map(set)
        });
        match wanted {
            Some(name) if name.to_lowercase().starts_with("zh") => Lang::Zh,
            _ => Lang::En,
        }
    }

    fn id(self) -> LanguageIdentifier {
        match self {
            Lang::En => langid!("en"),
            Lang::Zh => langid!("zh-CN"),
        }
    }

    fn source(self) -> &'static str {
        match self {
            Lang::En => ENGLISH,
            Lang::Zh => CHINESE,
        }
    }
}

/// A value to be put into a sentence.
pub type Arg<'a> = (&'static str, FluentValue<'a>);

/// All sentences of one language.
pub struct Messages {
    /// Which language.
    pub lang: Lang,
    bundle: FluentBundle<FluentResource>,
}

impl Messages {
    /// Reads the language's file, which is part of the binary.
    pub fn new(lang: Lang) -> Messages {
        let resource = FluentResource::try_new(lang.source().to_owned()).expect("tested: the files parse");
        let mut bundle = FluentBundle::new(vec![lang.id()]);
        // Isolation marks are invisible characters that end up in copied ids and paths.
        bundle.set_use_isolating(false);
        bundle.add_resource(resource).expect("tested: no key twice");
        Messages { lang, bundle }
    }

    /// The sentence of that key; the key itself when there is none, so that a slip is visible and harmless.
    pub fn text(&self, key: &str, args: &[Arg]) -> String {
        self.find(key, args).unwrap_or_else(|| key.to_owned())
    }

    /// The sentence of that key, if there is one. `key.attribute` names an attribute.
    pub fn find(&self, key: &str, args: &[Arg]) -> Option<String> {
        let (id, attribute) = key.split_once('.').map_or((key, None), |(id, name)| (id, Some(name)));
        let message = self.bundle.get_message(id)?;
        let pattern = match attribute {
            None => message.value()?,
            Some(name) => message.get_attribute(name)?.value(),
        };
        let args: FluentArgs = args.iter().cloned().collect();
        let mut slips = Vec::new();
        Some(self.bundle.format_pattern(pattern, Some(&args), &mut slips).into_owned())
    }
}

/// `text!(messages, "key", name = value, ..)`: a sentence with its values.
#[macro_export]
macro_rules! text {
    ($from:expr, $key:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $from.text($key, &[$((stringify!($name), fluent::FluentValue::from($value))),*])
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    #[test]
    fn the_flag_wins_then_our_variable_then_the_systems() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string())
        };
        assert_eq!(Lang::choose(None, env(&[])), Lang::En);
        assert_eq!(Lang::choose(None, env(&[("LANG", "zh_CN.UTF-8")])), Lang::Zh);
        assert_eq!(Lang::choose(None, env(&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "C")])), Lang::En);
        assert_eq!(Lang::choose(None, env(&[("LANG", "en_US"), ("GLEAN_LANG", "zh")])), Lang::Zh);
        assert_eq!(Lang::choose(Some("en"), env(&[("GLEAN_LANG", "zh")])), Lang::En);
    }

    /// Message ids (with `.attribute`) of one file, and the variables each uses.
    fn keys(source: &str) -> BTreeMap<String, BTreeSet<String>> {
        FluentResource::try_new(source.to_owned()).expect("the file parses");
        let mut keys = BTreeMap::new();
        let mut id = String::new();
        for line in source.lines().filter(|line| !line.starts_with('#')) {
            let head = line.split_once(" =").map(|(head, _)| head.trim());
            match head {
                Some(name) if line.starts_with(|c: char| c.is_ascii_lowercase()) => id = name.to_owned(),
                Some(name) if name.starts_with('.') => id = format!("{}{name}", id.split('.').next().unwrap()),
                _ => {}
            }
            let used: &mut BTreeSet<String> = keys.entry(id.clone()).or_default();
            for part in line.split('$').skip(1) {
                used.insert(part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect());
            }
        }
        keys.remove("");
        keys
    }

    #[test]
    fn both_languages_say_the_same_things_with_the_same_values() {
        assert_eq!(keys(ENGLISH), keys(CHINESE));
    }

    /// Every text of the sources, so that keys can be looked for in them.
    fn sources(folder: &Path) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all += &sources(&path);
            } else if path.file_name().unwrap() != "lang.rs" {
                all += &std::fs::read_to_string(path).unwrap();
            }
        }
        all
    }

    #[test]
    fn every_key_is_used_and_every_used_key_is_there() {
        let code = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let known = keys(ENGLISH);
        // Error texts are found by the API's code, help texts by the command's name.
        let by_name = |key: &str| ["error-", "cmd-"].iter().any(|start| key.starts_with(start));
        for key in known.keys().filter(|key| !by_name(key)) {
            assert!(code.contains(&format!("\"{key}\"")), "nobody uses `{key}`");
        }
        let tight: String = code.split_whitespace().collect();
        for (spot, start) in [("text!(ui,\"", ""), ("text!(self,\"", ""), (".tell(\"", ""), ("Fail::new(\"", "error-")]
        {
            for rest in tight.split(spot).skip(1) {
                let key = format!("{start}{}", rest.split('"').next().unwrap()).replace('_', "-");
                assert!(known.contains_key(&key), "`{key}` is in no message file");
            }
        }
    }
}
