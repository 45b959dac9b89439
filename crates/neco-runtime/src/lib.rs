//! Runs containers: the trait, a recorder for sandboxes, and a fake.
