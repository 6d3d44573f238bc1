//! How a receiver misbehaves.

use std::time::Duration;

use super::Accepted;

/// What happens to a message with a valid signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// It is kept and answered at once.
    Accept,
    /// It is stored and answered after a random delay, so that concurrent messages overtake each other.
    Slow {
        /// The longest while.
        at_most: Duration,
    },
    /// It is not kept, and answered like this.
    Fail {
        /// The status.
        status: u16,
        /// Further headers, each with its end of line.
        headers: String,
        /// The body.
        body: String,
    },
    /// It is not kept, and never answered.
    Stall,
    /// It is stored, but the connection breaks in the middle of the response, so that the sender must resend it.
    Cut,
}

impl Behaviour {
    /// A failure with nothing but a status.
    pub fn status(status: u16) -> Self {
        Self::failure(status, "", "")
    }

    /// A failure with a body.
    pub fn failure(status: u16, headers: &str, body: &str) -> Self {
        Self::Fail {
            status,
            headers: headers.to_owned(),
            body: body.to_owned(),
        }
    }

    /// It is full, and asks for a retry after this time.
    pub fn full(retry_after: &str) -> Self {
        let headers = format!("retry-after: {retry_after}\r\n");
        Self::failure(507, &headers, "no room left")
    }

    /// It redirects.
    pub fn redirect(to: &str) -> Self {
        Self::failure(307, &format!("location: {to}\r\n"), "")
    }
}

/// To which messages a behaviour applies, and how often.
#[derive(Debug, Clone)]
pub struct Rule {
    behaviour: Behaviour,
    id: Option<String>,
    instance: Option<String>,
    share: Option<f64>,
    times_left: Option<u32>,
}

impl Rule {
    /// To all, from now on.
    pub fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            id: None,
            instance: None,
            share: None,
            times_left: None,
        }
    }

    /// Only to the message of this id.
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// Only to those about an instance, `machine/name`.
    pub fn instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.to_owned());
        self
    }

    /// Only to a random share of them.
    pub fn share(mut self, share: f64) -> Self {
        self.share = Some(share);
        self
    }

    /// Only so often.
    pub fn times(mut self, times: u32) -> Self {
        self.times_left = Some(times);
        self
    }

    pub(super) fn applies(&self, message: &Accepted) -> bool {
        let is = |wanted: &Option<String>, there: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == there)
        };
        self.times_left != Some(0)
            && is(&self.id, Some(&message.id))
            && is(&self.instance, message.instance.as_deref())
            && self.share.is_none_or(|share| rand::random_bool(share))
    }

    pub(super) fn use_once(&mut self) -> Behaviour {
        if let Some(left) = &mut self.times_left {
            *left = left.saturating_sub(1);
        }
        self.behaviour.clone()
    }
}
