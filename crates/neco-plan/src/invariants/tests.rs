//! Every invariant is put to the test by a log that breaks it and by one that does not.

mod authority;
mod barrier;
mod installed;
mod liveness;
mod log;
mod record;
mod stops;
mod whole;
