//! The virtual data centre: boot servers that really boot, joined by a network that can really break, on one Linux machine.
//!
//! A [`description`] says how many there are; [`plan`] computes from it where everything is and what each is told, without
//! touching anything; [`host`] is the machine that it all runs on; [`instance`] is one data centre that runs; [`site`] is one as
//! [`stories`] use it. [`stand_in`] is a program of its own.

#[cfg(not(test))]
#[macro_use]
mod pipes;

pub mod description;
pub mod digest;
pub mod host;
pub mod instance;
pub mod plan;
pub mod site;
pub mod stand_in;
pub mod stories;
pub mod suite;
