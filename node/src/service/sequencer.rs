//! Assigns sequence numbers to the requests that this node accepts, so that a request that is sent twice is
//! executed once (RIFL).

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_machine::{Origin, SessionId};
use parking_lot::Mutex;

/// How far a number may be ahead of the oldest that is outstanding: the cluster keeps the replies to all from there
/// on. At 20,000 requests per second, one request would have to be outstanding for 6 seconds.
const WINDOW: u64 = 1 << 17;

/// One node process's sequence of requests.
#[derive(Clone)]
pub struct Sequencer {
    session: Arc<Mutex<Session>>,
    outstanding_max: usize,
}

struct Session {
    id: SessionId,
    next: u64,
    outstanding: BTreeSet<u64>,
    /// Whether the cluster knows this session. Until then, no request may be reported as answered, because the
    /// state machine accepts an unknown session only from its first request on.
    known: bool,
}

impl Session {
    fn new(id: SessionId) -> Self {
        Self {
            id,
            next: 1,
            outstanding: BTreeSet::new(),
            known: false,
        }
    }
}

/// A request's number, held until the request is answered.
pub struct Ticket {
    sequencer: Sequencer,
    session: SessionId,
    sequence: u64,
}

impl Sequencer {
    /// A new session. `id` must be random, and new at each start of the process.
    pub fn new(id: SessionId, outstanding_max: usize) -> Self {
        let session = Session::new(id);
        Self {
            session: Arc::new(Mutex::new(session)),
            outstanding_max,
        }
    }

    /// The next number; `None` while too many are outstanding, or the oldest of them is too far behind.
    pub fn begin(&self) -> Option<Ticket> {
        let mut session = self.session.lock();
        let oldest = session.outstanding.first().unwrap_or(&session.next);
        if session.outstanding.len() >= self.outstanding_max || session.next - oldest >= WINDOW {
            return None;
        }
        let sequence = session.next;
        session.next += 1;
        session.outstanding.insert(sequence);
        Some(Ticket {
            sequencer: self.clone(),
            session: session.id,
            sequence,
        })
    }

    /// How many numbers are held, and how many may be.
    pub fn outstanding(&self) -> (usize, usize) {
        (self.session.lock().outstanding.len(), self.outstanding_max)
    }

    /// Starts another session, where the cluster has forgotten this one.
    pub fn renew(&self, forgotten: SessionId, id: SessionId) {
        let mut session = self.session.lock();
        if session.id == forgotten {
            *session = Session::new(id);
        }
    }
}

impl Ticket {
    /// The request's origin, as of now; none once the session was replaced. The cluster would take the request for
    /// the first of a new session, and execute it even if it was executed before.
    pub fn origin(&self) -> Option<Origin> {
        let session = self.sequencer.session.lock();
        if session.id != self.session {
            return None;
        }
        let answered_below = match session.outstanding.first() {
            Some(oldest) if session.known => *oldest,
            _ => 1,
        };
        Some(Origin {
            session: self.session,
            sequence: self.sequence,
            answered_below,
        })
    }

    /// The request was applied: the cluster knows the session.
    pub fn applied(&self) {
        let mut session = self.sequencer.session.lock();
        if session.id == self.session {
            session.known = true;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut session = self.sequencer.session.lock();
        if session.id == self.session {
            session.outstanding.remove(&self.sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answered_request_is_below_the_line_once_all_before_it_are() {
        let sequencer = Sequencer::new(SessionId(7), 10);
        let [first, second, third] = [(); 3].map(|()| sequencer.begin().unwrap());
        second.applied();
        drop(second);
        assert_eq!(third.origin().unwrap().answered_below, 1);
        drop(first);
        assert_eq!(
            third.origin(),
            Some(Origin {
                session: SessionId(7),
                sequence: 3,
                answered_below: 3
            })
        );
    }

    #[test]
    fn nothing_is_called_answered_before_the_cluster_knows_the_session() {
        let sequencer = Sequencer::new(SessionId(7), 10);
        drop(sequencer.begin());
        let second = sequencer.begin().unwrap();
        assert_eq!(second.origin().unwrap().answered_below, 1);
        second.applied();
        assert_eq!(second.origin().unwrap().answered_below, 2);
    }

    #[test]
    fn a_request_of_a_replaced_session_is_not_sent_again() {
        let sequencer = Sequencer::new(SessionId(7), 10);
        let [old, other] = [(); 2].map(|()| sequencer.begin().unwrap());
        assert!(old.origin().is_some());
        sequencer.renew(SessionId(7), SessionId(8));
        assert_eq!(old.origin(), None);
        assert_eq!(other.origin(), None);
        let new = sequencer.begin().unwrap().origin().unwrap();
        assert_eq!((new.session, new.sequence), (SessionId(8), 1));
    }

    #[test]
    fn no_number_is_given_while_too_many_are_outstanding() {
        let sequencer = Sequencer::new(SessionId(7), 1);
        let only = sequencer.begin().unwrap();
        assert!(sequencer.begin().is_none());
        drop(only);
        assert!(sequencer.begin().is_some());
    }

    #[test]
    fn a_request_that_is_not_answered_bounds_those_after_it() {
        let sequencer = Sequencer::new(SessionId(7), 10);
        let oldest = sequencer.begin().unwrap();
        for _ in 1..WINDOW {
            drop(sequencer.begin().unwrap());
        }
        assert!(sequencer.begin().is_none(), "the window is exceeded");
        drop(oldest);
        assert!(sequencer.begin().is_some());
    }
}
