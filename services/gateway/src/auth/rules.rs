//! What a role may call: plain code over a path and the names of roles.

use crate::{
    config::{Auth, Permission, Route},
    route::normalised,
};

/// The role of everybody, authenticated or not.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// Calls, as a pattern names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Exactly this path.
    Exact(String),
    /// All paths that begin so.
    Prefix(String),
}

impl Calls {
    /// `package.Service/Method` or `/path`, with `*` at the end for any rest; `None` for what is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (rest, open) = text.strip_suffix('*').map_or((text, false), |rest| (rest, true));
        let is_path = rest.starts_with('/');
        let sound = !rest.contains(['*', '?', '#', ' ']) && rest.is_ascii();
        // A service's name alone is a path that nobody calls.
        if text.is_empty() || !sound || !(is_path || open || rest.contains('/')) {
            return None;
        }
        let path = if is_path { rest.to_owned() } else { format!("/{rest}") };
        let path = normalised(&path).into_owned();
        Some(if open { Self::Prefix(path) } else { Self::Exact(path) })
    }

    /// Whether a call is among them.
    pub(crate) fn match_path(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => path.starts_with(prefix),
        }
    }

    const fn rank(&self) -> (bool, usize) {
        match self {
            Self::Exact(_) => (true, 0),
            Self::Prefix(prefix) => (false, prefix.len()),
        }
    }
}

/// All rules of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// The best match first.
    permissions: Vec<(Calls, Vec<String>)>,
    /// Whether anything is allowed by name, so that all else is not.
    strict: bool,
}

/// Who may make a call: whoever has a role of each list that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed<'a> {
    rule: Option<&'a [String]>,
    route: Option<&'a [String]>,
    /// Without any list: whether nobody may, or everybody who is known.
    strict: bool,
}

impl Rules {
    pub(crate) fn new(auth: &Auth, routes: &[Route]) -> Self {
        let parse = |rule: &Permission| Some((Calls::parse(&rule.calls)?, rule.roles.clone()));
        let mut permissions: Vec<_> = auth.rules.iter().filter_map(parse).collect();
        permissions.sort_by_key(|(calls, _)| std::cmp::Reverse(calls.rank()));
        let strict = !auth.rules.is_empty() || routes.iter().any(|route| !route.roles.is_empty());
        Self { permissions, strict }
    }

    /// Who may call a path on a route with roles of its own.
    pub(crate) fn allowed<'a>(&'a self, path: &str, route: &'a [String]) -> Allowed<'a> {
        let permission = self.permissions.iter().find(|(calls, _)| calls.match_path(path));
        let rule = permission.map(|(_, roles)| roles.as_slice());
        Allowed { rule, route: Some(route).filter(|roles| !roles.is_empty()), strict: self.strict }
    }
}

impl<'a> Allowed<'a> {
    /// Whether everybody may.
    pub(crate) fn is_public(self) -> bool {
        let mut lists = self.lists().peekable();
        lists.peek().is_some() && lists.all(|roles| roles.iter().any(|role| role == ANONYMOUS))
    }

    /// Whether somebody with these roles may.
    pub(crate) fn admits(self, held: &[String]) -> bool {
        let mut lists = self.lists().peekable();
        if lists.peek().is_none() {
            return !self.strict;
        }
        lists.all(|roles| roles.iter().any(|role| role == ANONYMOUS || held.contains(role)))
    }

    fn lists(self) -> impl Iterator<Item = &'a [String]> {
        self.rule.into_iter().chain(self.route)
    }

    #[cfg(test)]
    pub(super) const fn to(roles: &'a [String]) -> Self {
        Self { rule: Some(roles), route: None, strict: true }
    }

    #[cfg(test)]
    pub(super) const ANYBODY_KNOWN: Self = Self { rule: None, route: None, strict: false };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(permissions: &[(&str, &[&str])], routes: &[Route]) -> Rules {
        let permission = |(calls, roles): &(&str, &[&str])| Permission {
            calls: (*calls).to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        let auth = Auth { rules: permissions.iter().map(permission).collect(), ..Auth::default() };
        Rules::new(&auth, routes)
    }

    fn admits(rules: &Rules, path: &str, route: &[&str], held: &[&str]) -> bool {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        rules.allowed(path, &owned(route)).admits(&owned(held))
    }

    #[test]
    fn without_any_rule_whoever_is_authenticated_may_and_with_one_all_else_is_denied() {
        assert!(admits(&rules(&[], &[]), "/a.B/C", &[], &["user"]));
        let one = rules(&[("a.B/*", &["operator"])], &[]);
        assert!(admits(&one, "/a.B/C", &[], &["operator"]));
        assert!(!admits(&one, "/a.B/C", &[], &["user"]));
        assert!(!admits(&one, "/other.S/M", &[], &["operator"]));
        let route = Route { roles: vec!["user".to_owned()], ..Route::path("/app/", "app") };
        let by_route = rules(&[], &[route]);
        assert!(admits(&by_route, "/app/", &["user"], &["user"]));
        assert!(!admits(&by_route, "/else/", &[], &["user"]));
    }

    #[test]
    fn the_exact_counts_before_the_longer_and_the_route_beside_it() {
        let rules = rules(
            &[
                ("a.*", &["user"]),
                ("a.B/*", &["service"]),
                ("a.B/C", &["operator"]),
                ("/open/*", &["anonymous"]),
            ],
            &[],
        );
        let rule = |path| rules.allowed(path, &[]).rule.unwrap().to_vec();
        assert_eq!(
            (rule("/a.B/C"), rule("/a.B/D"), rule("/a.X/D")),
            (["operator".to_owned()].into(), ["service".to_owned()].into(), ["user".to_owned()].into())
        );
        assert!(!admits(&rules, "/a.B/C", &["user"], &["user"]));
        assert!(!admits(&rules, "/a.B/C", &["user"], &["operator"]), "a role of each");
        assert!(admits(&rules, "/a.B/C", &["user"], &["operator", "user"]));
        assert!(!admits(&rules, "/open/x", &["operator"], &[]), "a rule opens no route that is closed");
        assert!(rules.allowed("/open/x", &[]).is_public());
        assert!(admits(&rules, "/open/x", &[], &[]));
        assert!(!rules.allowed("/open", &[]).is_public());
    }

    #[test]
    fn patterns_that_match_nothing_are_none() {
        for wrong in ["", "a.B", "a*b", "/a?b", "a b/*", "/ä/*"] {
            assert_eq!(Calls::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Calls::parse("*"), Some(Calls::Prefix("/".to_owned())));
        assert_eq!(Calls::parse("a.B/C"), Some(Calls::Exact("/a.B/C".to_owned())));
    }
}
