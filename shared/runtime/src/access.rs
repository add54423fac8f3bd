//! Who is let in: callers are authenticated, held to what contracts say of who may call what, and what operators do is
//! noted.

use std::{sync::Arc, time::Instant};

use http::HeaderMap;
use weft_mesh::{
    context::{Caller, Context, LOCAL_USER, Role},
    error::MeshError,
    identity::{IDENTITY_HEADER, Verifier},
    methods::{Access, Methods},
};

/// Says who makes a call.
pub trait Authenticate: Send + Sync + 'static {
    /// The caller of a path, by what a call's headers show.
    ///
    /// # Errors
    /// When they show nothing, or nothing to be believed.
    fn authenticate(&self, path: &str, headers: &HeaderMap) -> Result<Caller, MeshError>;
}

impl Authenticate for Verifier {
    fn authenticate(&self, _: &str, headers: &HeaderMap) -> Result<Caller, MeshError> {
        self.verify(headers)
    }
}

/// Guards a port.
#[derive(Clone)]
pub(crate) struct Guard {
    /// `None` where everybody is let in, by the name that a call gives.
    authenticator: Option<Arc<dyn Authenticate>>,
    port: Port,
}

/// What is behind a port, as far as it matters who comes.
#[derive(Clone)]
enum Port {
    /// gRPC services by name; beside them, what is for everybody.
    Public(Arc<[&'static str]>),
    /// Probes and perhaps metrics are for everybody, all else for operators.
    Admin { metrics: bool },
}

/// A call that was let in.
pub(crate) struct Admitted {
    pub(crate) context: Context,
    /// Set when what it does is to be noted.
    pub(crate) audit: Option<Audit>,
}

/// What an operator does, told when it is done.
pub(crate) struct Audit {
    caller: Caller,
    method: String,
}

impl Guard {
    /// A port with these services.
    pub(crate) fn public(authenticator: Option<Arc<dyn Authenticate>>, names: &[&'static str]) -> Self {
        Self { authenticator, port: Port::Public(names.into()) }
    }

    /// An admin port, with metrics for everybody or not.
    pub(crate) const fn admin(authenticator: Option<Arc<dyn Authenticate>>, metrics: bool) -> Self {
        Self { authenticator, port: Port::Admin { metrics } }
    }

    /// Lets a call in, or says why not; on an admin port that is noted too.
    pub(crate) fn admit(&self, path: &str, headers: &HeaderMap, now: Instant) -> Result<Admitted, MeshError> {
        let admitted = self.look(path, headers, now);
        if let (Port::Admin { .. }, Err(error)) = (&self.port, &admitted) {
            tracing::info!(target: "weft::audit", method = path.trim_start_matches('/'), %error, "refused");
        }
        admitted
    }

    fn look(&self, path: &str, headers: &HeaderMap, now: Instant) -> Result<Admitted, MeshError> {
        let caller = match &self.authenticator {
            // Whoever tells who calls expects to be held to it.
            None if headers.contains_key(IDENTITY_HEADER) => {
                return Err(MeshError::Identity { problem: "cannot be verified here: there are no keys" });
            }
            None => Caller::named(headers)?,
            Some(_) if self.port.is_for_everybody(path) => {
                Caller { user: LOCAL_USER.to_owned(), role: Role::User }
            }
            Some(authenticator) => authenticator.authenticate(path, headers)?,
        };
        let method = Methods::weft().get(path);
        if self.authenticator.is_some()
            && !self.port.is_for_everybody(path)
            && !caller.role.is_privileged()
            && (matches!(self.port, Port::Admin { .. }) || method.access != Access::User)
        {
            return Err(MeshError::Denied { problem: "this is for operators" });
        }
        let changes = method.access == Access::Operator && !method.safe;
        let noted = changes
            && match self.port {
                Port::Admin { .. } => caller.role.is_privileged(),
                // Services fill caches and finish jobs all day; where nobody is authenticated they pass for operators.
                Port::Public(_) => self.authenticator.is_some() && caller.role == Role::Operator,
            };
        let audit =
            noted.then(|| Audit { caller: caller.clone(), method: path.trim_start_matches('/').to_owned() });
        Ok(Admitted { context: Context::of(caller, headers, now)?, audit })
    }
}

impl Port {
    fn is_for_everybody(&self, path: &str) -> bool {
        match self {
            // Routes are found by the path as it is written, so what is not exactly a service's leads to none.
            Self::Public(names) => {
                let service = path.get(1..).and_then(|path| path.split_once('/')).map(|(service, _)| service);
                service.is_none_or(|service| !names.contains(&service))
            }
            Self::Admin { metrics } => {
                matches!(path, "/health" | "/livez" | "/readyz")
                    || (*metrics && path == "/metrics")
                    || path.starts_with("/grpc.health.v1.Health/")
            }
        }
    }
}

impl Audit {
    /// Tells what came of it.
    pub(crate) fn tell(self, status: &str) {
        let Caller { user, role } = &self.caller;
        tracing::info!(target: "weft::audit", user, role = role.as_str(), method = self.method, status, "audit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Everybody(Role);

    impl Authenticate for Everybody {
        fn authenticate(&self, _: &str, headers: &HeaderMap) -> Result<Caller, MeshError> {
            let named = headers.contains_key("x-user");
            let problem = "nobody";
            if named {
                Ok(Caller { user: "ada".into(), role: self.0 })
            } else {
                Err(MeshError::Unauthenticated { problem })
            }
        }
    }

    fn known() -> HeaderMap {
        HeaderMap::from_iter([("x-user".parse().unwrap(), "ada".parse().unwrap())])
    }

    fn outcome(guard: &Guard, path: &str, headers: &HeaderMap) -> String {
        match guard.admit(path, headers, Instant::now()) {
            Ok(admitted) if admitted.audit.is_some() => "noted".to_owned(),
            Ok(_) => "let in".to_owned(),
            Err(error) => error.to_string().split(':').next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn a_user_calls_what_is_for_users_and_an_operator_everything() {
        let names = ["weft.database.v1.ChatService", "weft.database.v1.UserService"];
        let guard = |role| Guard::public(Some(Arc::new(Everybody(role))), &names);
        let (user, service, operator) = (guard(Role::User), guard(Role::Service), guard(Role::Operator));
        let (chat, create, list) = (
            "/weft.database.v1.ChatService/GetChat",
            "/weft.database.v1.UserService/CreateUser",
            "/weft.database.v1.UserService/ListUsers",
        );
        assert_eq!(outcome(&user, chat, &known()), "let in");
        assert_eq!(outcome(&user, create, &known()), "not permitted");
        assert_eq!(outcome(&user, "/weft.database.v1.ChatService/New", &known()), "not permitted");
        assert_eq!(outcome(&service, create, &known()), "let in");
        assert_eq!(outcome(&operator, create, &known()), "noted");
        assert_eq!(outcome(&operator, list, &known()), "let in");
        for path in [chat, create, list] {
            assert_eq!(outcome(&operator, path, &HeaderMap::new()), "not authenticated");
        }
    }

    #[test]
    fn beside_services_a_public_port_is_for_everybody_and_an_admin_port_only_for_probes() {
        let somebody = || -> Option<Arc<dyn Authenticate>> { Some(Arc::new(Everybody(Role::User))) };
        let (public, nobody) = (Guard::public(somebody(), &["weft.cache.v1.CacheService"]), HeaderMap::new());
        for path in ["/health", "/assets/a/b", "/grpc.health.v1.Health/Check", "/"] {
            assert_eq!(outcome(&public, path, &nobody), "let in", "{path}");
        }
        let admin = Guard::admin(somebody(), true);
        for path in ["/health", "/livez", "/readyz", "/metrics", "/grpc.health.v1.Health/Watch"] {
            assert_eq!(outcome(&admin, path, &nobody), "let in", "{path}");
        }
        for path in
            ["/", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/console", "/metrics/"]
        {
            assert_eq!(outcome(&admin, path, &nobody), "not authenticated", "{path}");
            assert_eq!(outcome(&admin, path, &known()), "not permitted", "{path}");
        }
        assert_eq!(outcome(&Guard::admin(somebody(), false), "/metrics", &nobody), "not authenticated");
    }

    #[test]
    fn where_nobody_is_authenticated_the_admin_port_notes_what_is_done_and_others_do_not() {
        let drain = "/weft.gateway.v1.GatewayService/DrainBackend";
        assert_eq!(outcome(&Guard::admin(None, true), drain, &HeaderMap::new()), "noted");
        let set = "/weft.cache.v1.CacheService/Set";
        let open = Guard::public(None, &["weft.cache.v1.CacheService"]);
        assert_eq!(outcome(&open, set, &HeaderMap::new()), "let in");
        let named = HeaderMap::from_iter([("weft-user".parse().unwrap(), "two words".parse().unwrap())]);
        assert!(outcome(&open, set, &named).starts_with("weft-user"));
        let told = HeaderMap::from_iter([(IDENTITY_HEADER, "x".parse().unwrap())]);
        assert!(outcome(&open, set, &told).starts_with("weft-identity cannot be verified"));
    }
}
