//! The cryptography of this process's TLS connections.

use std::sync::Once;

/// Makes ring the provider of all TLS connections; to be called before the first.
///
/// Calling it again does nothing, and a provider that something else has installed stays.
pub fn install_crypto_provider() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider was installed before");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_is_there_after_any_number_of_calls() {
        install_crypto_provider();
        install_crypto_provider();
        let provider = rustls::crypto::CryptoProvider::get_default();
        assert!(provider.is_some_and(|provider| !provider.cipher_suites.is_empty()));
    }
}
