//! One thing that has a state.

use serde::{Deserialize, Serialize};

use crate::ids::{Revision, StateName, Timestamp, Version};

/// An instance of a machine, as the cluster holds it. Its id is the key it is stored under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The definition's version it is pinned to.
    pub version: Version,
    /// The state it is in.
    pub state: StateName,
    /// How many transitions it has made.
    pub revision: Revision,
    /// When it was created; 0 for a built-in instance.
    pub created_at: Timestamp,
    /// When it last moved; equals `created_at` until it does.
    pub changed_at: Timestamp,
}
