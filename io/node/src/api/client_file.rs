//! `<home>/run/api.json`: how a command finds the running node of its home.

use crate::api::types::ApiFile;
use crate::home::{Home, HomeError};

const NAME: &str = "run/api.json";

/// Writes it, readable by the owner only.
pub fn write(home: &Home, file: &ApiFile) -> Result<(), HomeError> {
    home.write_json(NAME, file)
}

/// Reads it; `None` when no node runs (or none has got so far).
pub fn read(home: &Home) -> Result<Option<ApiFile>, HomeError> {
    home.read_json(NAME)
}

/// Removes it when the node stops.
pub fn remove(home: &Home) {
    // A file that is not there any more is what we want.
    let _ = std::fs::remove_file(home.path(NAME));
}
