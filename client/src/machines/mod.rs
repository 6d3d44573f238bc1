//! Machines: what users define.

mod define;
mod delete;
mod describe;
mod draw;

pub use define::{DefineCall, Defined};
pub use delete::DeleteMachineCall;
pub use describe::{Machine, MachineSummary, VersionSummary};
pub use draw::{DrawCall, Picture, PictureFormat};
