//! Real processes on real etcd: whole updates under faults.
