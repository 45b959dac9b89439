//! Knows this server: identity, addresses, files under a root, journal, verified packages, dpkg.
