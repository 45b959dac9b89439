//! Shows the whole system on one machine, without root: etcd, mirror, updaters, workers, one release.
