//! Bindings to the contracts, generated from their committed artifacts: nothing here is typed by hand.

#![allow(missing_docs, reason = "generated; the contracts' own NatSpec is the documentation")]
#![allow(clippy::too_many_arguments, reason = "generated")]

use alloy_sol_types::sol;

sol!(
    #[derive(Debug, PartialEq, Eq)]
    GLN,
    "../../contracts/artifacts/GLN.json"
);
sol!(
    #[derive(Debug, PartialEq, Eq)]
    Dollar,
    "../../contracts/artifacts/Dollar.json"
);
sol!(
    #[derive(Debug, PartialEq, Eq)]
    Machines,
    "../../contracts/artifacts/Machines.json"
);
sol!(
    #[derive(Debug, PartialEq, Eq)]
    Channels,
    "../../contracts/artifacts/Channels.json"
);
