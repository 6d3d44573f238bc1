//! The runner, against a far side in memory that fails as it is told to.

mod aside;
mod claims;
mod far;
mod faults;
mod places;
mod seeds;
mod stage;
