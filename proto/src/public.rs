//! The public messages to and from the state machine's own types.

use lockstep_machine::{IdempotencyKey, Reply, Transition};

use crate::{Malformed, v1};

impl TryFrom<v1::TransitionRequest> for (Transition, Option<IdempotencyKey>) {
    type Error = Malformed;
    fn try_from(request: v1::TransitionRequest) -> Result<Self, Malformed> {
        let _ = request;
        unimplemented!()
    }
}

impl From<Reply> for v1::TransitionResponse {
    fn from(reply: Reply) -> Self {
        let _ = reply;
        unimplemented!()
    }
}
