//! How busy model servers are, as they say themselves: what others have sent them counts like what was sent from here.
//!
//! A gateway sees its own calls. Of servers that several gateways use, or somebody past them, the balancer knows too
//! little; they count all their requests, those that run and those that wait, and show it in Prometheus' text format.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use http::HeaderMap;
use tokio::time::{MissedTickBehavior, interval, timeout};
use weft_balance::Backend;

use super::fetch::{Asking, get, is_up};

/// How long an answer may take: a later one says nothing of now.
const PATIENCE: Duration = Duration::from_secs(1);
/// Gauges of requests that run or wait: of vLLM, SGLang, llama.cpp and TGI.
const REQUESTS: [&str; 8] = [
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "sglang:num_running_reqs",
    "sglang:num_queue_reqs",
    "llamacpp:requests_processing",
    "llamacpp:requests_deferred",
    "tgi_batch_current_size",
    "tgi_queue_size",
];

/// Asks every server of a pool again and again, and tells the balancer.
pub(super) async fn follow(asking: &Asking, path: &str, every: Duration, headers: impl Fn() -> HeaderMap) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let list = asking.pool().backends.list();
        let asked = list.iter().filter(|backend| is_up(backend));
        join_all(asked.map(|backend| report(asking, backend, path, headers()))).await;
    }
}

/// Asks one. Whoever does not answer is balanced by what was sent from here alone.
async fn report(asking: &Asking, backend: &Arc<Backend>, path: &str, headers: HeaderMap) {
    let answer = timeout(PATIENCE, get(asking, backend, path, headers)).await;
    let requests =
        answer.ok().and_then(Result::ok).and_then(|text| requests(&String::from_utf8_lossy(&text)));
    match requests {
        Some(requests) => backend.report_load(requests, Instant::now()),
        None => tracing::debug!(backend = backend.address(), "a model server does not say how busy it is"),
    }
}

/// All requests that a server has, those of all its models and engines; `None` if it does not say.
fn requests(exposition: &str) -> Option<u64> {
    let mut sum = None;
    for line in exposition.lines() {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        if !REQUESTS.contains(&name) {
            continue;
        }
        // Labels may have spaces in them, what follows the braces has none but before a timestamp.
        let rest = line.rsplit_once('}').map_or(line.get(name.len()..), |(_, rest)| Some(rest))?;
        let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 to 2^32")]
        let value = (0.0..4_294_967_296.0).contains(&value).then_some(value as u64)?;
        sum = Some(sum.unwrap_or(0) + value);
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_of_all_engines_are_added_up() {
        let vllm = "# HELP vllm:num_requests_running Number of requests.\n\
                    # TYPE vllm:num_requests_running gauge\n\
                    vllm:num_requests_running{engine=\"0\",model_name=\"meta llama} 9\"} 3.0\n\
                    vllm:num_requests_running{engine=\"1\",model_name=\"meta\"} 1.0 1700000000000\n\
                    vllm:num_requests_waiting{engine=\"0\"} 2\n\
                    vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 7\n\
                    vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n";
        assert_eq!(requests(vllm), Some(6));
        assert_eq!(requests("sglang:num_running_reqs 4\r\nsglang:num_queue_reqs 1e1"), Some(14));
        assert_eq!(requests("llamacpp:requests_processing 0\n"), Some(0));
        for silent in ["", "up 1", "vllm:num_requests_running", "vllm:num_requests_running NaN"] {
            assert_eq!(requests(silent), None, "{silent}");
        }
        assert_eq!(requests("vllm:num_requests_running -1"), None);
    }

    proptest! {
        #[test]
        fn anything_is_read_or_passed_over(text in "(vllm:num_requests_running|[{} 0-9a-z\\n]){0,12}") {
            let _ = requests(&text);
        }
    }
}
