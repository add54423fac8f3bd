//! What a backend does with its calls.

use std::str::FromStr;

/// How calls that come from now on are answered. Health checks pass with each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Behaviour {
    /// After the time they ask for, times this factor: 1 when it is well.
    Serve(f64),
    /// At once, with UNAVAILABLE.
    FailFast,
    /// Never.
    Hang,
}

impl FromStr for Behaviour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let factor = |text: &str| text.parse().ok().filter(|factor| (0.0..=1e6).contains(factor));
        match (text, text.strip_prefix("slow=").and_then(factor)) {
            ("well", _) => Ok(Self::Serve(1.0)),
            ("fail_fast", _) => Ok(Self::FailFast),
            ("hang", _) => Ok(Self::Hang),
            (_, Some(factor)) => Ok(Self::Serve(factor)),
            _ => Err(format!("{text:?} is none of well, slow=FACTOR, fail_fast, hang, report, reset")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_done() {
        assert_eq!("well".parse(), Ok(Behaviour::Serve(1.0)));
        assert_eq!("slow=2.5".parse(), Ok(Behaviour::Serve(2.5)));
        assert_eq!("fail_fast".parse(), Ok(Behaviour::FailFast));
        assert_eq!("hang".parse(), Ok(Behaviour::Hang));
        for nonsense in ["", "slow", "slow=", "slow=-1", "slow=NaN", "slow=inf", "Hang"] {
            assert!(nonsense.parse::<Behaviour>().is_err(), "{nonsense}");
        }
    }
}
