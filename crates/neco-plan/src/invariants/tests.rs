//! Every invariant is put to the test by a log that breaks it and by one that does not.
