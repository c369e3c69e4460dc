//! Case files: `>>` a request, `<<` the answer it must get, `// speconly:` only in shape.

use std::path::Path;

use glean_chain::RpcHandler;
use serde_json::Value;

/// One file.
pub struct Case {
    /// `method/name`.
    pub name: String,
    /// Only the shape of the answers counts.
    spec_only: bool,
    exchanges: Vec<(String, Value)>,
}

impl Case {
    /// All cases, by name.
    pub fn all(data: &Path) -> Vec<Self> {
        let methods = files(data).into_iter().filter(|path| path.is_dir());
        let paths = methods.flat_map(|method| files(&method));
        paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "io"))
            .map(|path| read(&path))
            .collect()
    }

    pub fn method(&self) -> &str {
        self.name.split_once('/').expect("a method and a name").0
    }

    /// Asks; says where the first answer differs.
    pub async fn run(&self, rpc: &RpcHandler) -> Result<(), String> {
        for (request, expected) in &self.exchanges {
            let answer = rpc.handle(request.clone().into()).await;
            let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
            let compare = if self.spec_only { fits } else { equals };
            compare("", &without_words(answer), &without_words(expected.clone()))?;
        }
        Ok(())
    }
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("reads");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("reads").path()).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).expect("reads");
    let part = |path: Option<&Path>| path.and_then(Path::file_stem).expect("a name").to_string_lossy().into_owned();
    let name = format!("{}/{}", part(path.parent()), part(Some(path)));
    let lines = |mark: &'static str| text.lines().filter_map(move |line| line.strip_prefix(mark));
    let answers = lines("<<").map(|line| serde_json::from_str(line).expect("JSON"));
    Case {
        spec_only: lines("//").any(|line| line.trim_start().starts_with("speconly:")),
        exchanges: lines(">>").map(|line| line.trim().to_string()).zip(answers).collect(),
        name,
    }
}

/// An answer without an error's message: its words are every client's own.
fn without_words(mut answer: Value) -> Value {
    if let Some(error) = answer.get_mut("error").and_then(Value::as_object_mut) {
        error.remove("message");
    }
    answer
}

/// The same JSON, whatever the order of keys.
fn equals(at: &str, ours: &Value, theirs: &Value) -> Result<(), String> {
    match (ours, theirs) {
        (Value::Object(_), Value::Object(_)) => {
            same_keys(at, ours, theirs)?;
            members(theirs).try_for_each(|(key, theirs)| equals(&format!("{at}/{key}"), &ours[key], theirs))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => (0..)
            .zip(a.iter().zip(b))
            .try_for_each(|(index, (ours, theirs)): (usize, _)| equals(&format!("{at}/{index}"), ours, theirs)),
        _ if ours == theirs => Ok(()),
        _ => Err(format!("at {at}: {} instead of {}", brief(ours), brief(theirs))),
    }
}

/// The same shape: kinds of values, and keys of objects. A list's elements each have the shape of one of theirs.
fn fits(at: &str, ours: &Value, theirs: &Value) -> Result<(), String> {
    match (ours, theirs) {
        (Value::Object(_), Value::Object(_)) if is_map(ours) && is_map(theirs) => {
            members(ours).try_for_each(|(key, ours)| {
                let any: Vec<&Value> = members(theirs).map(|(_, theirs)| theirs).collect();
                fits_one_of(&format!("{at}/{key}"), ours, &any)
            })
        }
        (Value::Object(_), Value::Object(_)) => {
            same_keys(at, ours, theirs)?;
            members(theirs).try_for_each(|(key, theirs)| fits(&format!("{at}/{key}"), &ours[key], theirs))
        }
        (Value::Array(a), Value::Array(b)) => {
            let any: Vec<&Value> = b.iter().collect();
            (0..).zip(a).try_for_each(|(index, ours): (usize, _)| fits_one_of(&format!("{at}/{index}"), ours, &any))
        }
        (Value::String(a), Value::String(b)) if a.starts_with("0x") == b.starts_with("0x") => Ok(()),
        (Value::Number(_), Value::Number(_)) | (Value::Bool(_), Value::Bool(_)) | (Value::Null, Value::Null) => Ok(()),
        _ => Err(format!("at {at}: {} is not shaped like {}", brief(ours), brief(theirs))),
    }
}

fn fits_one_of(at: &str, ours: &Value, theirs: &[&Value]) -> Result<(), String> {
    let tries = theirs.iter().map(|theirs| fits(at, ours, theirs));
    tries.reduce(|found, next| found.or(next)).unwrap_or(Ok(()))
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// An object whose keys are data (addresses, slots, nonces) and not words.
fn is_map(object: &Value) -> bool {
    members(object).all(|(key, _)| key.starts_with("0x") || key.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn same_keys(at: &str, ours: &Value, theirs: &Value) -> Result<(), String> {
    let missing = members(theirs).find(|(key, _)| ours.get(key).is_none());
    let extra = members(ours).find(|(key, _)| theirs.get(key).is_none());
    match (missing, extra) {
        (Some((key, theirs)), _) => Err(format!("at {at}: no {key} ({}) in {}", brief(theirs), brief(ours))),
        (None, Some((key, ours))) => Err(format!("at {at}: an unexpected {key} ({})", brief(ours))),
        (None, None) => Ok(()),
    }
}

/// The beginning of a value.
fn brief(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}
