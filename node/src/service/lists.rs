//! Lists of instances, page by page: filters and page cursors.

use lockstep_machine::{
    Instance, InstanceId, InstanceName, ListQuery, MachineName, Rejection, StateName,
};
use xxhash_rust::xxh3::xxh3_64;

use super::invalid::prefix;
use super::{Invalid, View};

/// Instances on a page, unless the caller asks for fewer or more.
const LIMIT_DEFAULT: u64 = 100;
/// Instances on a page at most.
pub const LIMIT_MAX: u64 = 1000;
/// Instances looked at for one page at most.
const SCAN_MAX: usize = 10_000;

/// How many a page holds at most: 1 to 1000, by default 100.
pub fn page_limit(requested: Option<u64>) -> Result<usize, Invalid> {
    match requested.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit as usize),
        _ => {
            let reason = format!("must be a whole number from 1 to {LIMIT_MAX}");
            Err(Invalid::value("limit", reason))
        }
    }
}

/// A request for a page, unchecked.
#[derive(Debug, Clone)]
pub struct PageAsked {
    pub machine: MachineName,
    pub state: Option<StateName>,
    pub prefix: String,
    pub label: Option<(String, String)>,
    /// Maximum number of instances, 1 to 1000; 100 if unset.
    pub limit: Option<u64>,
    pub cursor: Option<String>,
}

/// One page of instances of a machine, in order of id.
#[derive(Debug, Clone)]
pub struct Listed {
    pub instances: Vec<(InstanceId, Instance)>,
    /// Where the next page starts; none if this is the last.
    pub next_cursor: Option<String>,
    /// How many instances the machine has, in the requested state if there is one.
    pub total: u64,
}

/// A checked request for a page of one machine.
#[derive(Debug, Clone)]
pub struct PageQuery {
    machine: MachineName,
    query: ListQuery,
}

impl PageAsked {
    /// Checks the request.
    pub fn check(self) -> Result<PageQuery, Invalid> {
        let prefix = prefix(Some(self.prefix))?.unwrap_or_default();
        let limit = page_limit(self.limit)?;
        let mut asked = PageQuery {
            query: ListQuery {
                machine: Some(self.machine.clone()),
                state: self.state,
                prefix,
                label: self.label,
                after: None,
                limit,
                scan_max: SCAN_MAX,
            },
            machine: self.machine,
        };
        if let Some(text) = self.cursor {
            let name = asked.read_cursor(&text).ok_or(Invalid::Cursor)?;
            asked.query.after = Some(InstanceId::from_parts(asked.machine.clone(), name));
        }
        Ok(asked)
    }
}

impl PageQuery {
    /// The cursor for the page after `last`: a checksum over the position and the filters, and the name, in
    /// hexadecimal. The same on every node.
    pub fn cursor(&self, last: &InstanceId) -> String {
        self.cursor_at(last.name())
    }

    fn cursor_at(&self, name: &str) -> String {
        format!("{:016x}{}", self.checksum(name), hex::encode(name))
    }

    fn read_cursor(&self, text: &str) -> Option<InstanceName> {
        let (_, name) = text.split_at_checked(16)?;
        let name = String::from_utf8(hex::decode(name).ok()?).ok()?;
        let name = InstanceName::new(name).ok()?;
        (self.cursor_at(name.as_str()) == text).then_some(name)
    }

    /// What ties a cursor to the list it was given for.
    fn checksum(&self, name: &str) -> u64 {
        let ListQuery {
            machine,
            state,
            prefix,
            label,
            ..
        } = &self.query;
        let filters = (machine, state, prefix, label);
        xxh3_64(format!("{filters:?} {name:?}").as_bytes())
    }
}

impl View {
    /// One page of a machine's instances.
    pub fn list(&self, asked: &PageQuery) -> Result<Listed, Box<Rejection>> {
        let unknown = || {
            let machine = asked.machine.clone();
            Box::new(Rejection::UnknownMachine { machine })
        };
        let totals = self.state.totals(&asked.machine).ok_or_else(unknown)?;
        let total = match &asked.query.state {
            None => totals.instances,
            Some(state) => totals.states.get(state).copied().unwrap_or_default(),
        };
        let page = self.state.list(&asked.query);
        Ok(Listed {
            instances: page.instances,
            next_cursor: page.next.map(|last| asked.cursor(&last)),
            total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::State;

    fn asked() -> PageAsked {
        PageAsked {
            machine: MachineName::new("triad").unwrap(),
            state: None,
            prefix: String::new(),
            label: None,
            limit: None,
            cursor: None,
        }
    }

    fn with_cursor(prefix: &str, cursor: &str) -> Result<PageQuery, Invalid> {
        PageAsked {
            prefix: prefix.to_owned(),
            cursor: Some(cursor.to_owned()),
            ..asked()
        }
        .check()
    }

    #[test]
    fn a_page_is_bounded() {
        let query = asked().check().unwrap().query;
        assert_eq!((query.limit, query.scan_max), (100, 10_000));
        let limited = |limit| {
            let limit = Some(limit);
            PageAsked { limit, ..asked() }.check()
        };
        assert_eq!(limited(1000).unwrap().query.limit, 1000);
        for bad in [0, 1001, u64::MAX] {
            let fault = limited(bad).unwrap_err();
            assert!(matches!(fault, Invalid::Value { field: "limit", .. }));
        }
        let long = "x".repeat(65);
        for bad in ["a b", "-a", &long] {
            let prefix = bad.to_owned();
            let fault = PageAsked { prefix, ..asked() }.check().unwrap_err();
            assert!(
                matches!(
                    fault,
                    Invalid::Name {
                        field: "prefix",
                        ..
                    }
                ),
                "{bad}"
            );
        }
    }

    #[test]
    fn an_altered_cursor_is_refused() {
        let prefix = || "a".to_owned();
        let query = PageAsked {
            prefix: prefix(),
            ..asked()
        };
        let good = query.check().unwrap().cursor_at("a-17");
        let read = with_cursor("a", &good).unwrap();
        assert_eq!(read.query.after.unwrap().name(), "a-17");
        assert_eq!(
            with_cursor("b", &good).unwrap_err(),
            Invalid::Cursor,
            "another filter"
        );
        for at in 0..good.len() {
            let mut altered = good.clone().into_bytes();
            altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).unwrap();
            let fault = with_cursor("a", &altered).unwrap_err();
            assert_eq!(fault, Invalid::Cursor, "{altered}");
        }
        for bad in ["", "x", "äääääääää"] {
            assert_eq!(with_cursor("a", bad).unwrap_err(), Invalid::Cursor);
        }
    }

    #[test]
    fn a_list_includes_the_total() {
        let view = View {
            state: State::default(),
            applied_index: 1,
        };
        let listed = view.list(&asked().check().unwrap()).unwrap();
        assert_eq!((listed.instances.len(), listed.total), (1, 1));
        assert_eq!(listed.next_cursor, None);
        let elsewhere = PageAsked {
            state: Some(StateName::new("third").unwrap()),
            ..asked()
        };
        assert_eq!(view.list(&elsewhere.check().unwrap()).unwrap().total, 0);
        let unknown = PageAsked {
            machine: MachineName::new("order").unwrap(),
            ..asked()
        };
        assert!(view.list(&unknown.check().unwrap()).is_err());
    }
}
