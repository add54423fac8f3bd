//! What it costs to say and to believe who calls: `cargo bench -p weft-mesh --bench identity`.
//!
//! Each line is the median of 20 rounds, in microseconds for one. `again` is what is remembered, which is what calls meet;
//! `cold` is the first time, ES256 being the token of a single sign-on.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people at a terminal")]

use std::{hint::black_box, time::Instant};

use http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, jwk::Jwk};
use serde_json::{Value, json};
use weft_mesh::{
    context::{Caller, Role},
    identity::{IDENTITY_HEADER, Keys},
};
use weft_testkit::TokenIssuer;

const ROUNDS: usize = 20;

fn measure(what: &str, times: u32, mut once: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            (0..times).for_each(|_| once());
            began.elapsed().as_secs_f64() / f64::from(times) * 1e6
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{what:34} {:8.2} us ({:.2}-{:.2})", rounds[ROUNDS / 2], rounds[0], rounds[ROUNDS - 1]);
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys { key: Some(folder.path().join("identity.key")), create: true, ..Keys::default() };
    let ada = Caller { user: "ada".to_owned(), role: Role::User };
    let signer = keys.signer("weft-gateway").unwrap().unwrap();
    let mut number = 0;
    measure("identity (Ed25519), signed cold", 100, || {
        number += 1;
        let user = Caller { user: format!("user-{number}"), role: Role::User };
        black_box(signer.sign(&user, "database").unwrap());
    });
    measure("identity, signed again", 10_000, || drop(black_box(signer.sign(&ada, "database").unwrap())));
    let signed = HeaderMap::from_iter([(IDENTITY_HEADER, signer.sign(&ada, "database").unwrap())]);
    measure("identity, verified cold", 100, || {
        // What reads the keys is a small part of it.
        let verifier = keys.verifier("database").unwrap().unwrap();
        black_box(verifier.verify(&signed).unwrap());
    });
    let verifier = keys.verifier("database").unwrap().unwrap();
    measure("identity, verified again", 10_000, || drop(black_box(verifier.verify(&signed).unwrap())));
    let issuer = TokenIssuer::new("k").unwrap();
    let token =
        issuer.sign(&json!({ "iss": "i", "aud": "weft", "sub": "ada", "exp": 4_000_000_000_u64 })).unwrap();
    let jwk: Jwk = serde_json::from_value(issuer.jwk()).unwrap();
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&["weft"]);
    measure("token (ES256), verified cold", 100, || {
        drop(black_box(decode::<Value>(&token, &key, &validation).unwrap()));
    });
}
