//! Drives units: the trait, a recorder for sandboxes, and a fake.
