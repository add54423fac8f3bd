#!/usr/bin/env python3
"""What a front door costs: TLS, beside HAProxy and nginx, JSON, beside gRPC, and asking who calls, beside not asking.

    python3 tests/bench/front/run.py [--rounds 5] [--seconds 4] [--profile dist | --bin-dir DIR]

Every proxy runs one forwarding thread, alone on core 0; h2load and the backends share core 1. Rounds rotate over what is
compared. Printed is the median over the rounds of the proxy's own CPU time (user + system, from /proc) divided by the
calls it answered, the spread, and the ratio.

TLS is 1.3 with TLS_AES_128_GCM_SHA256 and an ECDSA P-256 certificate for everybody. `kept` are 8 connections with 32
streams each, and calls of 100 B; `new` is a connection for each call, whose handshake is never resumed. Backends are
echoes without TLS (nghttpd). JSON is a call of `CacheService/Get` by the Connect protocol, which the gateway translates,
beside the same call in gRPC; behind both is weft-cache with a value of 100 B. Those who are asked show a token (JWT, ES256),
which is verified once and remembered, and are held to a rate limit by user, which is too high to be met; `told` means
that the backend is told who calls in an identity signed for it, which is remembered for half a minute.

haproxy, nginx-light, nghttp2-client, nghttp2-server and openssl are Debian packages.
"""

import argparse
import base64
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from json import dumps

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from processes import LOAD_CORE, PROXY_CORE, add_options, binaries, cpu_seconds, end_as_by_ctrl_c, need_tools, pinned
from processes import rotated, stop, wait_port
from proxies import find_nginx, free_port, version

CIPHER = "TLS_AES_128_GCM_SHA256"
# Connections that h2load makes at once where each has one call.
NEW_CONNECTIONS = 500

WEFT = """
workers = 1
admin = {{ address = "127.0.0.1:{admin}" }}
telemetry = {{ log = "warn" }}
[[listeners]]
address = "127.0.0.1:{port}"
{tls}
[[pools]]
name = "bench"
backends = [{{ address = "127.0.0.1:{backend}" }}]
health = {{ kind = "tcp" }}
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
    ssl-default-bind-ciphersuites {cipher}
defaults
    mode http
    timeout connect 1s
    timeout client 1h
    timeout server 1h
frontend front
    bind 127.0.0.1:{port} ssl crt {folder}/both.pem alpn h2
    default_backend bench
backend bench
    server s 127.0.0.1:{backend} proto h2
"""

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-bodies;
    keepalive_requests 1000000000;
    http2_max_concurrent_streams 1024;
    upstream bench {{
        server 127.0.0.1:{backend};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        ssl_protocols TLSv1.3;
        location / {{ grpc_pass grpc://bench; }}
    }}
}}
"""


def certificate(folder):
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", *curve, "-nodes", "-days", "2", *name, *files]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())


def h2load(url, shape, payload, headers):
    command = ["taskset", "-c", str(LOAD_CORE), "h2load", "-t", "1", *shape, "-d", str(payload), "-w", "20", "-W", "24"]
    command += [word for header in headers for word in ("-H", header)]
    if url.startswith("https"):
        command += ["--tls13-ciphers", CIPHER]
    return [*command, url]


def measure(pid, command):
    """CPU microseconds for each call that was answered with 2xx, and calls that were not."""
    before = cpu_seconds(pid)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    used = cpu_seconds(pid) - before
    total = re.search(r"requests: (\d+) total", done.stdout)
    status = re.search(r"status codes: (\d+) 2xx", done.stdout)
    if not total or not status or not int(status[1]):
        sys.exit(f"h2load said:\n{done.stdout}{done.stderr}")
    if used == 0:
        sys.exit(f"too short to be measured: {' '.join(command)}")
    return used / int(status[1]) * 1e6, int(total[1]) - int(status[1])


def compare(title, candidates, rounds, ours):
    """Runs each (name, pid, command) in turns and prints what it cost, and the ratio of `ours` to it."""
    costs, failed = {name: [] for name, _, _ in candidates}, dict.fromkeys((name for name, _, _ in candidates), 0)
    for turn in range(rounds):
        for name, pid, command in rotated(candidates, turn):
            cost, lost = measure(pid, command)
            costs[name].append(cost)
            failed[name] += lost
    print(f"\n{title}")
    middle = {name: statistics.median(found) for name, found in costs.items()}
    for name, found in costs.items():
        line = f"  {name:14} {middle[name]:8.1f} us/call ({min(found):.1f}-{max(found):.1f})"
        if name != ours:
            line += f", {ours} is {middle[ours] / middle[name]:.2f} x"
        if failed[name]:
            line += f", {failed[name]} FAILED"
        print(line, flush=True)


def start(running, core, command, port):
    running.append(pinned(core, command, stdout=subprocess.DEVNULL))
    wait_port(port, running[-1])
    return running[-1].pid


def gateway(running, program, folder, backend, tls):
    port, config = free_port(), folder / f"weft-{'tls' if tls else 'plain'}-{backend}.toml"
    pair = f"{{ certificate = '{folder}/cert.pem', key = '{folder}/key.pem' }}"
    line = f"tls = {{ certificates = [{pair}] }}" if tls else ""
    config.write_text(WEFT.format(port=port, admin=free_port(), backend=backend, tls=line))
    return port, start(running, PROXY_CORE, [program, "--config", config], port)


def tls(arguments, program, folder, running):
    certificate(folder)
    backend = free_port()
    echo = ["nghttpd", "--no-tls", "--echo-upload", "--trailer", "grpc-status: 0", "-w", "20", "-W", "24", "-m", "1024"]
    start(running, LOAD_CORE, [*echo, "-a", "127.0.0.1", backend], backend)
    proxies = [("weft-gateway", *gateway(running, program, folder, backend, True))]
    plain = gateway(running, program, folder, backend, False)
    peers = [("HAProxy", "haproxy", HAPROXY, lambda file: ["haproxy", "-f", file])]
    nginx = find_nginx()
    peers.append(("nginx", nginx, NGINX, lambda file: [nginx, "-c", file]))
    for name, found, template, command in peers:
        port, config = free_port(), folder / name
        config.write_text(template.format(port=port, backend=backend, folder=folder, cipher=CIPHER))
        proxies.append((name, port, start(running, PROXY_CORE, command(config), port)))
    payload = folder / "payload"
    payload.write_bytes(b"\0" + (95).to_bytes(4, "big") + b"x" * 95)
    headers = ["content-type: application/grpc", "te: trailers"]
    for title, shape in {
        "TLS, kept: 100 B unary, 8 x 32": ["-D", arguments.seconds, "-c", 8, "-m", 32],
        "TLS, new: a handshake for each call": ["-n", NEW_CONNECTIONS, "-c", NEW_CONNECTIONS],
    }.items():
        path = "grpc.testing.Echo/Unary"
        call = lambda scheme, port: h2load(f"{scheme}://127.0.0.1:{port}/{path}", map(str, shape), payload, headers)
        candidates = [(name, pid, call("https", port)) for name, port, pid in proxies]
        if "kept" in title:
            candidates.append(("without TLS", plain[1], call("http", plain[0])))
        compare(title, candidates, arguments.rounds, "weft-gateway")


ASKED = """
[[routes]]
grpc_service = "*"
pool = "bench"
rate_limits = [{{ requests = 1000000000, key = "user" }}]
[[auth.issuers]]
issuer = "https://id.example"
audiences = ["weft"]
jwks_file = "{folder}/jwks.json"
algorithms = ["ES256"]
"""


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(folder):
    """A token that is good for a day, signed with the certificate's key, which becomes the issuer's."""
    key = folder / "key.pem"
    public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True)
    point = public.stdout[-64:]
    jwk = {"kty": "EC", "crv": "P-256", "kid": "k", "x": base64url(point[:32]), "y": base64url(point[32:])}
    (folder / "jwks.json").write_text(dumps({"keys": [jwk]}))
    claims = {"iss": "https://id.example", "aud": "weft", "sub": "ada", "exp": int(time.time()) + 86400}
    parts = [base64url(dumps(part).encode()) for part in ({"alg": "ES256", "kid": "k"}, claims)]
    message = ".".join(parts)
    sign = ["openssl", "dgst", "-sha256", "-sign", key]
    der = subprocess.run(sign, input=message.encode(), check=True, capture_output=True).stdout
    # SEQUENCE { INTEGER r, INTEGER s }, each perhaps with a zero before it.
    r = der[4 : 4 + der[3]]
    s = der[6 + der[3] :]
    return f"{message}.{base64url(r[-32:].rjust(32, bytes(1)) + s[-32:].rjust(32, bytes(1)))}"


def asking(arguments, program, folder, running):
    """The same calls to gateways that ask who calls, and to one that does not."""
    backend, shown = free_port(), token(folder)
    echo = ["nghttpd", "--no-tls", "--echo-upload", "--trailer", "grpc-status: 0", "-w", "20", "-W", "24", "-m", "1024"]
    start(running, LOAD_CORE, [*echo, "-a", "127.0.0.1", backend], backend)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", folder / "identity.key"], check=True, capture_output=True)
    plain = WEFT.rsplit("[[routes]]", 1)
    told = plain[0].replace('name = "bench"', 'name = "bench"\nidentity = "bench"') + ASKED
    told += '[identity]\nkey = "{folder}/identity.key"\n'
    headers = ["content-type: application/grpc", "te: trailers", f"authorization: Bearer {shown}"]
    candidates = []
    for name, template in {"asked": plain[0] + ASKED, "asked, told": told, "not asked": WEFT}.items():
        port, config = free_port(), folder / f"{name.replace(', ', '-').replace(' ', '-')}.toml"
        config.write_text(template.format(port=port, admin=free_port(), backend=backend, tls="", folder=folder))
        pid = start(running, PROXY_CORE, [program, "--config", config], port)
        shape = ["-D", str(arguments.seconds), "-c", "8", "-m", "32"]
        url = f"http://127.0.0.1:{port}/grpc.testing.Echo/Unary"
        candidates.append((name, pid, h2load(url, shape, folder / "payload", headers)))
    compare("Asking who calls: 100 B unary, 8 x 32", candidates, arguments.rounds, "asked")


def json(arguments, program, cache, folder, running):
    port, config = free_port(), folder / "cache.toml"
    config.write_text(f'address = "127.0.0.1:{port}"\nadmin = {{ address = "127.0.0.1:{free_port()}" }}\n')
    start(running, LOAD_CORE, [cache, "--config", config], port)
    front, pid = gateway(running, program, folder, port, False)
    url = f"http://127.0.0.1:{front}/weft.cache.v1.CacheService"
    key = "user:7"
    value = "eHh4" * 34
    store = ["curl", "-sf", "-d", f'{{"key": "{key}", "value": "{value}"}}', f"{url}/Set"]
    subprocess.run(store, check=True, capture_output=True)
    message = b"\x0a" + bytes([len(key)]) + key.encode()
    (folder / "get.bin").write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    (folder / "get.json").write_text(f'{{"key": "{key}"}}')
    shape = ["-D", str(arguments.seconds), "-c", "8", "-m", "16"]
    grpc = h2load(f"{url}/Get", shape, folder / "get.bin", ["content-type: application/grpc", "te: trailers"])
    json = h2load(f"{url}/Get", shape, folder / "get.json", ["content-type: application/json"])
    compare("CacheService/Get, 100 B, 8 x 16", [("JSON", pid, json), ("gRPC", pid, grpc)], arguments.rounds, "JSON")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--seconds", type=int, default=4)
    arguments = parser.parse_args()
    end_as_by_ctrl_c()
    need_tools(h2load="nghttp2-client", nghttpd="nghttp2-server", openssl="openssl", haproxy="haproxy", curl="curl")
    if not find_nginx():
        sys.exit("nginx is not installed: apt-get install nginx-light")
    print(f"HAProxy {version(['haproxy', '-v'])}, nginx {version([find_nginx(), '-v'])}")
    program, cache = binaries(arguments, "weft-gateway", "weft-cache")
    running = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            tls(arguments, program, pathlib.Path(folder), running)
            json(arguments, program, cache, pathlib.Path(folder), running)
            asking(arguments, program, pathlib.Path(folder), running)
        finally:
            for process in reversed(running):
                stop(process)


if __name__ == "__main__":
    main()
