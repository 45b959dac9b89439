//! The program, as it is started, against a registry, a mirror of releases and a channel on the loopback device.

mod refusals;
mod sources;
mod world;
mod writing;
