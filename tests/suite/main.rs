//! The suite: promises that Samen makes, tested from outside.

mod contract;
mod log;
mod requests;
mod services;
mod simulation;
