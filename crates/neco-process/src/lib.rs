//! Frames a process: config, logs, signals, readiness, watchdog, listener, exit codes.
