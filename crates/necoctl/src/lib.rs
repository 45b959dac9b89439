//! The operators' command line: status, why, update, stop, recover and the rest.
