//! Setters for the fields of calls.

/// `[calls].field-of-the-call { field of the request: type => value, }`, with the documentation of each
/// method in front of its field.
macro_rules! setters {
    (@call $call:ident $of:tt { $($(#[$doc:meta])* $field:ident: $type:ty => $value:expr,)* }) => {
        impl $call {
            $(
                $(#[$doc])*
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$of.$field = $value;
                    self
                }
            )*
        }
    };
    (@calls [$($call:ident),+] $of:tt $fields:tt) => {
        $(setters!(@call $call $of $fields);)+
    };
    ($($calls:tt.$of:tt $fields:tt)*) => {
        $(setters!(@calls $calls $of $fields);)*
    };
}

pub(crate) use setters;
