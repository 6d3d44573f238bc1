//! `lockstepd dev`: three real nodes on this machine.
