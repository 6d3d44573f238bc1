//! The sink against a server: see `lockstep_tests::mongo` for which.

mod claims;
mod far;
mod faults;
mod scripted;
mod seeds;
mod writes;
