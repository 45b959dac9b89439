//! The steps of the real recipe, run by real engines on sandboxes: whole updates, crashes, stops and aborts.

mod absences;
mod cluster;
mod drivers;
mod etcd;
mod formats;
mod groups;
mod once;
mod previews;
mod restarts;
mod services;
mod troubles;
mod turns;
mod updates;
