//! Values that must not be printed.

use std::fmt;

/// A value that prints as `***`. It is readable where somebody writes [`Secret::reveal`], so that
/// every such place can be found.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself: for use, not for output.
    pub const fn reveal(&self) -> &T {
        &self.0
    }

    /// Another secret made of this one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Secret<U> {
        Secret(change(self.0))
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_as_stars_however_it_is_printed() {
        let secret = Secret::new("hunter2".to_owned());
        let printed = format!("{secret} {secret:?} {secret:#?} {:?}", Some(&secret));
        assert_eq!(printed, "*** *** *** Some(***)");
        assert_eq!(secret.map(|s| s.len()).reveal(), &7);
    }
}
