//! The steps of the real recipe, run by real engines on sandboxes: whole updates, crashes, stops and aborts.

mod absences;
mod bad_input;
mod cluster;
mod drivers;
mod etcd;
mod formats;
mod groups;
mod leading;
mod once;
mod outside;
mod previews;
mod restarts;
mod services;
mod started;
mod troubles;
mod turns;
mod updates;
