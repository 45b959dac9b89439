//! Speaks etcd: typed reads, guarded transactions, resuming watch, session, campaign, turn.
