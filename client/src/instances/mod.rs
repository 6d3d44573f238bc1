//! Instances: one file for each thing that can be done with them.

mod create;
mod delete;
mod get;
mod history;
mod list;
mod migrate;
mod pages;
mod transition;

pub use create::CreateCall;
pub use delete::DeleteCall;
pub use get::Instance;
pub use history::History;
pub use list::{InstancePage, ListCall};
pub use migrate::MigrateCall;
pub use pages::Instances;
pub use transition::TransitionCall;
