//! What a request is, and what may happen to it. Pure: no clock, no
//! randomness, no I/O.

pub mod audit;
pub mod catalogue;
pub mod hotspot;
pub mod location;
pub mod network;
pub mod norm;
pub mod request;
pub mod routing;
pub mod status;
