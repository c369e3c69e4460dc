//! One error shape for the whole API.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::api::types::ApiError;

/// A request that did not succeed.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    error: ApiError,
}

impl Failure {
    /// The request itself is at fault.
    pub fn bad(code: &str, message: impl ToString, hint: &str) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, code, message, Some(hint))
    }

    /// There is no such thing.
    pub fn not_found(code: &str, message: impl ToString, hint: &str) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, code, message, Some(hint))
    }

    /// Something this node needs is not there now.
    pub fn unavailable(code: &str, message: impl ToString, hint: &str) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, code, message, Some(hint))
    }

    /// The node is stopping, or its disk failed.
    pub fn stopping() -> Failure {
        Failure::unavailable(
            "stopping",
            "the node is stopping",
            "start it again; see <home>/log/node.log for the reason",
        )
    }

    /// Not allowed.
    pub fn forbidden(code: &str, message: impl ToString) -> Failure {
        Failure::new(StatusCode::FORBIDDEN, code, message, Some("use the token and url of <home>/run/api.json"))
    }

    fn new(status: StatusCode, code: &str, message: impl ToString, hint: Option<&str>) -> Failure {
        let error = ApiError { code: code.to_owned(), message: message.to_string(), hint: hint.map(str::to_owned) };
        Failure { status, error }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.error)).into_response()
    }
}
