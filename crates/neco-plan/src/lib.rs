//! Decides: what the leader does next, what a boot server does next, and which invariants must hold.
