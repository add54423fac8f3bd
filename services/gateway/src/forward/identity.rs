//! On whose behalf a call is forwarded, and what its backend is told of it.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use weft_mesh::{
    context::{Caller, USER_HEADER},
    error::MeshError,
    identity::IDENTITY_HEADER,
    methods::{Access, Methods},
    tls::ClientNames,
};

use super::Lane;
use crate::{
    auth::{Admission, Auth, Unknown},
    rate,
    route::normalised,
};

/// Who makes a call on a lane, if it may be made; `None` for anybody, where anybody may.
///
/// # Errors
/// [`MeshError::Unauthenticated`] and [`MeshError::Denied`].
pub(super) async fn admit<B>(lane: &Lane, request: &Request<B>) -> Result<Option<Caller>, MeshError> {
    // Nothing of the request is held while keys are waited for: bodies are not for two threads.
    let unknown = match ask(lane, request) {
        Admission::Decided(decided) => return decided,
        Admission::Unknown(unknown) => unknown,
    };
    let again = fetch(Arc::clone(&lane.bounds.auth), unknown);
    // Boxed, because it is large and seldom.
    Box::pin(again).await;
    match ask(lane, request) {
        Admission::Decided(decided) => decided,
        Admission::Unknown(unknown) => Err(unknown.into()),
    }
}

fn ask<B>(lane: &Lane, request: &Request<B>) -> Admission {
    let (bounds, roles) = (&lane.bounds, &lane.rule.roles);
    let path = normalised(request.uri().path());
    let names = request.extensions().get::<ClientNames>();
    let admission = bounds.auth.admit(bounds.rules.allowed(&path, roles), &path, request.headers(), names);
    match admission {
        // Services see to it themselves, where they have keys to see it by.
        Admission::Decided(Ok(Some(caller))) if lane.audience.is_some() && is_for_others(&path, &caller) => {
            Admission::Decided(Err(MeshError::Denied { problem: "this is for operators" }))
        }
        admission => admission,
    }
}

/// Whether a method of Weft's contracts is not for a caller's role.
fn is_for_others(path: &str, caller: &Caller) -> bool {
    let methods = Methods::weft();
    !caller.role.is_privileged() && methods.contains(path) && methods.get(path).access != Access::User
}

async fn fetch(auth: Arc<Auth>, unknown: Unknown) {
    auth.fetch_again(&unknown).await;
}

/// Whose calls a call is counted with.
pub(super) fn client<'a>(
    lane: &Lane,
    address: IpAddr,
    user: &'a Result<Option<Caller>, MeshError>,
) -> rate::Client<'a> {
    // Where nobody is asked, a name is what anybody says.
    let known = user.as_ref().ok().filter(|_| lane.bounds.auth.is_configured());
    rate::Client { address, user: known.and_then(Option::as_ref).map(|user| user.user.as_str()) }
}

/// Tells a backend who calls: a service of Weft what can be believed, others a name. What clients say of it goes, and so
/// do credentials that are meant for the gateway.
///
/// # Errors
/// When it cannot be signed.
pub(super) fn introduce(
    lane: &Lane,
    headers: &mut HeaderMap,
    caller: Option<&Caller>,
) -> Result<(), MeshError> {
    let (auth, audience) = (&lane.bounds.auth, lane.audience.as_deref());
    let signing = lane.bounds.signer.as_ref().zip(audience);
    if auth.is_configured() || signing.is_some() {
        forget(headers, |name| is_like(name, &USER_HEADER));
    }
    forget(headers, |name| is_like(name, &IDENTITY_HEADER));
    // What was shown to the gateway is not for services, nor for whoever runs a model.
    let known = caller.is_some() && auth.is_configured();
    auth.take_credentials(headers, audience.is_some() || known && lane.catalogue.is_some());
    if let Some(catalogue) = &lane.catalogue {
        catalogue.authorize(headers);
    }
    match (signing, caller) {
        (Some((signer, audience)), Some(caller)) => {
            headers.insert(IDENTITY_HEADER, signer.sign(caller, audience)?);
        }
        (None, Some(caller)) if auth.is_configured() && lane.catalogue.is_none() => {
            headers.extend(HeaderValue::try_from(&caller.user).ok().map(|user| (USER_HEADER, user)));
        }
        _ => {}
    }
    Ok(())
}

fn forget(headers: &mut HeaderMap, is_meant: impl Fn(&HeaderName) -> bool) {
    if !headers.keys().any(&is_meant) {
        return;
    }
    let names: Vec<_> = headers.keys().filter(|name| is_meant(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Servers that hand headers on as variables (CGI, WSGI) see no difference between `_` and `-`.
fn is_like(name: &HeaderName, meant: &HeaderName) -> bool {
    let (name, meant) = (name.as_str().as_bytes(), meant.as_str().as_bytes());
    let is_same = |(a, b): (&u8, &u8)| a == b || *a == b'_' && *b == b'-';
    name.len() == meant.len() && name.iter().zip(meant).all(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_some_servers_take_for_the_same_are_the_same() {
        let like = |name: &'static str| is_like(&HeaderName::from_static(name), &USER_HEADER);
        assert!(like("weft-user") && like("weft_user"));
        assert!(!like("weft-users") && !like("left-user") && !like("weft.user"));
    }
}
