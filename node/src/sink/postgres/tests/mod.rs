//! The sink against a real server.

mod broken;
mod claims;
mod given;
mod seeds;
mod tls;
mod writes;
