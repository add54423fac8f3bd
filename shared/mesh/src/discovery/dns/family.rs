//! One answer out of two: the A and the AAAA records of a name. Pure.

use std::net::IpAddr;

/// What a query for one family came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply<T> {
    /// Records.
    Records(T),
    /// The name has none of this kind, says a server.
    Nothing(String),
    /// No server said anything of use.
    Failed(String),
}

/// What is known of a name: the last addresses of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Families {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl Families {
    /// Takes both replies. A family whose query failed keeps what it had if the other has records, so that a server
    /// that drops one of two queries, or never answers AAAA, does not halve or empty the list; otherwise the whole
    /// lookup failed.
    pub(super) fn take(&mut self, v4: Reply<Vec<IpAddr>>, v6: Reply<Vec<IpAddr>>) -> Reply<Vec<IpAddr>> {
        match (v4, v6) {
            (Reply::Failed(error), Reply::Failed(_) | Reply::Nothing(_))
            | (Reply::Nothing(_), Reply::Failed(error)) => return Reply::Failed(error),
            (Reply::Nothing(error), Reply::Nothing(_)) => return Reply::Nothing(error),
            (v4, v6) => {
                renew(&mut self.v4, v4);
                renew(&mut self.v6, v6);
            }
        }
        Reply::Records(self.v4.iter().chain(&self.v6).copied().collect())
    }
}

fn renew(known: &mut Vec<IpAddr>, reply: Reply<Vec<IpAddr>>) {
    match reply {
        Reply::Records(addresses) => *known = addresses,
        Reply::Nothing(_) => known.clear(),
        Reply::Failed(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Reply<Vec<IpAddr>> {
        match text {
            "nothing" => Reply::Nothing("nothing".to_owned()),
            "failed" => Reply::Failed("failed".to_owned()),
            list => Reply::Records(list.split(' ').map(|address| address.parse().unwrap()).collect()),
        }
    }

    #[test]
    fn a_family_that_fails_keeps_what_it_had_and_one_that_ended_does_not() {
        let mut known = Families::default();
        for (v4, v6, both) in [
            ("10.0.0.1", "failed", "10.0.0.1"),
            ("10.0.0.1", "::1", "10.0.0.1 ::1"),
            ("10.0.0.2", "failed", "10.0.0.2 ::1"),
            ("failed", "nothing", "failed"),
            ("failed", "failed", "failed"),
            ("nothing", "nothing", "nothing"),
            ("failed", "::2", "10.0.0.2 ::2"),
            ("nothing", "::2", "::2"),
            ("failed", "::2", "::2"),
        ] {
            assert_eq!(known.take(reply(v4), reply(v6)), reply(both), "{v4}, {v6}");
        }
    }
}
