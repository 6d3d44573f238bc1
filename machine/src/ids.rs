//! Names, ids and numbers, parsed once at the edge and trusted inside.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use smol_str::SmolStr;

use crate::name::{InvalidName, NameRule};

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        name!(
            $(#[$doc])*
            ///
            /// 1 to 64 bytes: ASCII letters, digits, `-`, `_`, `.`, starting with a letter or a digit.
            $type, $kind, NAME, r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
        );
    };
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:ident, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(SmolStr);

        impl $type {
            /// Parses a name.
            pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidName> {
                NameRule::$rule.check($kind, value.as_ref())?;
                Ok(Self(SmolStr::new(value)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0.as_str())
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        crate::codec::checked_text!($type);
        crate::schema::schema!($type, pattern($pattern, 1, NameRule::$rule.len_max));
    };
}

name!(
    /// The name of a machine: what a definition defines.
    MachineName, "machine name"
);
name!(
    /// The name of a state of a machine.
    StateName, "state name"
);
name!(
    /// The name of an event, which may cause a transition.
    EventName, "event name"
);
name!(
    /// The name of a sink.
    ///
    /// 1 to 32 bytes: lowercase ASCII letters and digits, starting with a letter.
    SinkName, "sink name", SINK, r"^[a-z][a-z0-9]*$"
);

name!(
    /// A caller's own name for a request: the same key gets the first outcome again.
    ///
    /// 1 to 128 printable ASCII characters.
    IdempotencyKey, "idempotency key", KEY, r"^[ -~]+$"
);

/// The identity of an instance: `machine/name`, for example `order/42`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct InstanceId {
    /// The machine it is an instance of.
    #[n(0)]
    pub machine: MachineName,
    #[n(1)]
    name: InstanceName,
}

name!(
    /// The name of an instance within its machine.
    InstanceName, "instance name"
);

impl InstanceId {
    /// Makes an id from its two parts.
    pub fn new(machine: impl AsRef<str>, name: impl AsRef<str>) -> Result<Self, InvalidName> {
        Ok(Self {
            machine: MachineName::new(machine)?,
            name: InstanceName::new(name)?,
        })
    }

    /// Makes an id from its two parsed parts.
    pub fn from_parts(machine: MachineName, name: InstanceName) -> Self {
        Self { machine, name }
    }

    /// The part after the slash.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The part after the slash, as it is stored.
    pub fn instance_name(&self) -> &InstanceName {
        &self.name
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.machine, self.name)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

crate::codec::json_text!(InstanceId);
crate::schema::schema!(
    InstanceId,
    pattern(
        r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        3,
        2 * NameRule::NAME.len_max + 1
    )
);

impl FromStr for InstanceId {
    type Err = InvalidName;
    fn from_str(value: &str) -> Result<Self, InvalidName> {
        let Some((machine, name)) = value.split_once('/') else {
            let rule = "it must have the form machine/name, such as order/42";
            return Err(InvalidName::new("instance id", value, rule));
        };
        Self::new(machine, name)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $type(#[n(0)] pub $inner);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
    // With the JSON form of a number that is at least `min`.
    ($(#[$doc:meta])* $type:ident($inner:ident), $min:literal) => {
        number!($(#[$doc])* $type($inner));

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(s)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                crate::json::whole(d).map(Self)
            }
        }

        crate::schema::schema!($type, number($min, $inner::MAX as usize));
    };
}

number!(
    /// How often an instance has changed since it was created; a new instance is at 0.
    Revision(u64), 0
);
number!(
    /// How many commands have changed a definition or an instance: one counter for the cluster.
    ///
    /// All changes of a command have the same revision; a read sees everything up to some revision.
    GlobalRevision(u64), 0
);
number!(
    /// The version of a definition; the first is 1.
    Version(u32), 1
);
number!(
    /// Cluster time in milliseconds since the Unix epoch: the leader's clock, never going back.
    Timestamp(u64)
);
crate::schema::schema!(
    Timestamp,
    text()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
);
