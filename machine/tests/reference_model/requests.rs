//! The model of sessions and callers' keys, as plain lists.

use lockstep_machine::*;

use crate::model::Model;

pub struct Client {
    session: SessionId,
    answered_below: u64,
    pub replies: Vec<(u64, Reply)>,
}

pub struct KeyUse {
    key: IdempotencyKey,
    command: Command,
    outcome: Outcome,
    revision: GlobalRevision,
    at: u64,
}

impl KeyUse {
    fn bytes(&self) -> u64 {
        64 + self.key.as_str().len() as u64 + lockstep_machine::codec::encoded_len(&self.outcome)
    }
}

pub struct Requests {
    pub model: Model,
    /// Oldest first.
    pub keys: Vec<KeyUse>,
    /// The one idle for longest first.
    pub clients: Vec<Client>,
    /// Requests answered from a client's list, which no reply shows.
    pub repeats: usize,
}

impl Requests {
    pub fn new(model: Model) -> Self {
        Self {
            model,
            keys: vec![],
            clients: vec![],
            repeats: 0,
        }
    }

    pub fn apply(&mut self, batch: &Batch) -> Vec<Reply> {
        self.model.now = self.model.now.max(batch.stamp.0);
        let (now, retention) = (self.model.now, self.model.limits.key_retention_ms);
        self.keys.retain(|it| it.at + retention >= now);
        batch
            .requests
            .iter()
            .map(|request| self.request(request))
            .collect()
    }

    fn reply(&self, outcome: Outcome) -> Reply {
        let revision = GlobalRevision(self.model.revision);
        Reply {
            outcome,
            replayed: false,
            revision,
        }
    }

    fn request(&mut self, request: &Request) -> Reply {
        let expired = self.reply(Outcome::Rejected(Rejection::RequestExpired));
        let origin = request.origin;
        let at = self
            .clients
            .iter()
            .position(|it| it.session == origin.session);
        let client = match at {
            Some(at) => self.clients.remove(at),
            None if origin.answered_below > 1 => return expired,
            None => {
                if self.clients.len() == self.model.limits.sessions_max as usize {
                    self.clients.remove(0);
                }
                Client {
                    session: origin.session,
                    answered_below: 0,
                    replies: vec![],
                }
            }
        };
        self.clients.push(client);
        let client = self.clients.last_mut().unwrap();
        client.answered_below = client.answered_below.max(origin.answered_below);
        let below = client.answered_below;
        client.replies.retain(|(sequence, _)| *sequence >= below);
        if origin.sequence < below {
            return expired;
        }
        let known = client
            .replies
            .iter()
            .find(|(sequence, _)| *sequence == origin.sequence);
        if let Some((_, reply)) = known {
            self.repeats += 1;
            return reply.clone();
        }
        let reply = self.keyed(request);
        if let Some(client) = self
            .clients
            .last_mut()
            .filter(|it| it.session == origin.session)
        {
            client.replies.push((origin.sequence, reply.clone()));
        }
        reply
    }

    fn keyed(&mut self, request: &Request) -> Reply {
        let Some(key) = &request.key else {
            return self.execute(&request.command);
        };
        if let Some(first) = self.keys.iter().find(|it| it.key == *key) {
            if first.command != request.command {
                return self.reply(Outcome::Rejected(Rejection::KeyReused));
            }
            let (outcome, revision) = (first.outcome.clone(), first.revision);
            return Reply {
                outcome,
                replayed: true,
                revision,
            };
        }
        let reply = self.execute(&request.command);
        self.keys.push(KeyUse {
            key: key.clone(),
            command: request.command.clone(),
            outcome: reply.outcome.clone(),
            revision: reply.revision,
            at: self.model.now,
        });
        self.forget_keys();
        reply
    }

    fn execute(&mut self, command: &Command) -> Reply {
        let outcome = self.model.command(command);
        if let Outcome::SettingsUpdated(_) = outcome {
            self.forget_keys();
            while self.clients.len() as u64 > self.model.limits.sessions_max {
                self.clients.remove(0);
            }
        }
        self.reply(outcome)
    }

    fn forget_keys(&mut self) {
        let limits = &self.model.limits;
        while self.keys.len() as u64 > limits.keys_max
            || self.keys.iter().map(KeyUse::bytes).sum::<u64>() > limits.key_bytes_max
        {
            self.keys.remove(0);
        }
    }
}
