//! An issuer of tokens that tests believe.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use crate::{Error, Result};

/// Signs tokens (JWT) with ES256.
#[derive(Debug)]
pub struct TokenIssuer {
    key: EcdsaKeyPair,
    /// The name of its key.
    pub kid: String,
}

impl TokenIssuer {
    /// One with a new key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(kid: &str) -> Result<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| Error::Key)?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).map_err(|_| Error::Key)?;
        Ok(Self { key, kid: kid.to_owned() })
    }

    /// Its public key, as a set of keys has it.
    #[must_use]
    pub fn jwk(&self) -> Value {
        // 4, and the two coordinates.
        let point = self.key.public_key().as_ref();
        let part = |range| point.get(range).map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        let (x, y) = (part(1..33), part(33..65));
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid, "x": x, "y": y })
    }

    /// The set that has its key alone.
    #[must_use]
    pub fn jwks(&self) -> String {
        json!({ "keys": [self.jwk()] }).to_string()
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        self.sign_as(&json!({ "alg": "ES256", "typ": "JWT", "kid": self.kid }), claims)
    }

    /// The same with a header that may say anything.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> Result<String> {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let signed = self.key.sign(&SystemRandom::new(), message.as_bytes()).map_err(|_| Error::Key)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed)))
    }
}
