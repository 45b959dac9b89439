//! Values that must not be shown.

use std::fmt;

pub use zeroize::Zeroize;
use zeroize::Zeroizing;

/// A value that prints as `***`, and whose memory is overwritten when it is dropped. It is readable where
/// somebody writes [`Secret::reveal`], so that every such place can be found.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize = String>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Hides a value.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself: for use, not for output.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.to_owned())
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: Zeroize> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn it_prints_as_stars_however_it_is_printed() {
        let secret = Secret::from("hunter2");
        let printed = format!("{secret} {secret:?} {secret:#?} {:?}", Some(&secret));
        assert_eq!(printed, "*** *** *** Some(***)");
        assert_eq!(secret.reveal(), "hunter2");
    }

    struct Watched(Arc<AtomicBool>);

    impl Zeroize for Watched {
        fn zeroize(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_overwritten_when_it_is_dropped() {
        let overwritten = Arc::new(AtomicBool::new(false));
        let secret = Secret::new(Watched(Arc::clone(&overwritten)));
        assert!(!overwritten.load(Ordering::Relaxed));
        drop(secret);
        assert!(overwritten.load(Ordering::Relaxed));
    }
}
