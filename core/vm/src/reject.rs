//! Why some bytes are no program that runs here, in words for whoever built them.

/// Why a module is not a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// It does not begin like one.
    #[error("this is not a WebAssembly module")]
    NotWasm,
    /// A component or something newer.
    #[error("this is a WebAssembly component; only core modules with WASI preview 1 run here")]
    Component,
    /// Not valid, or it uses a feature that is off.
    #[error("invalid module: {0}")]
    Invalid(String),
    /// Too much of something.
    #[error("{what}: {got} is over the limit of {limit}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much.
        got: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// It needs something from its host that we do not have.
    #[error("it imports `{module}.{name}`, which is not offered")]
    UnknownImport {
        /// The import's module.
        module: String,
        /// The import's name.
        name: String,
    },
    /// It imports a function of ours with another type.
    #[error("it imports `{module}.{name}` with a wrong type")]
    ImportType {
        /// The import's module.
        module: String,
        /// The import's name.
        name: String,
    },
    /// Nothing to start.
    #[error("it exports no function `_start` without parameters and results: a library, not a program")]
    NoStart,
    /// Received bytes were not what [`prepare`](crate::prepare) makes.
    #[error("the module was not prepared by this version")]
    NotPrepared,
}

impl Reject {
    pub(crate) fn invalid(error: wasmparser::Error) -> Reject {
        Reject::Invalid(error.to_string())
    }
}

/// Refuses too much of something.
pub(crate) fn within(what: &'static str, got: u64, limit: u64) -> Result<(), Reject> {
    if got > limit { Err(Reject::TooMuch { what, got, limit }) } else { Ok(()) }
}
