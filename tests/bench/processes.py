"""What the benchmarks share: programs pinned to a core, the backends of weft-testkit, and what the system says of them."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

from proxies import find_envoy, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLOCK = os.sysconf("SC_CLK_TCK")
# The proxy has a core of its own; load and backends share the other one.
PROXY_CORE, LOAD_CORE = 0, 1
# Longer than any call takes.
DRAIN_SECONDS = 40


def add_options(parser, rounds=5):
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--profile", default="dist")
    parser.add_argument("--bin-dir", type=pathlib.Path, metavar="DIR", help="has the binaries; nothing is built")
    parser.add_argument("--envoy", default=find_envoy())


def end_as_by_ctrl_c():
    """SIGTERM ends what was started too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))


def binaries(arguments, *names):
    """Their paths, after a build unless they are there."""
    folder = arguments.bin_dir
    if not folder:
        packages = [word for name in names for word in ("-p", name)]
        subprocess.run(["cargo", "build", "--profile", arguments.profile, *packages], cwd=ROOT, check=True)
        folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / arguments.profile
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        sys.exit(f"{folder} has no {' and no '.join(missing)}")
    return [(folder / name).resolve() for name in names]


def need_tools(**packages):
    for tool, package in packages.items():
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed: apt-get install {package}")


def need_files(count):
    """Lets this process, and what it starts, open so many files each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
    except (ValueError, OSError):
        sys.exit(f"{count} open files are needed and the limit is {hard}: raise it (ulimit -Hn {count}), or ask for less")


def pinned(core, command, **options):
    return subprocess.Popen(["taskset", "-c", str(core), *map(str, command)], **options)


def stop(process):
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_port(port, process):
    for _ in range(200):
        if process.poll() is not None:
            sys.exit(f"{process.args[3]} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"{process.args[3]} does not listen on {port}")


def sleep_until(when):
    time.sleep(max(0, when - time.monotonic()))


def family(pid):
    """A process and its children: nginx has a worker."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def cpu_seconds(pid):
    """Of a process and its children, since their starts."""
    return sum(map(own_cpu_seconds, family(pid)))


def own_cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def core_seconds(core):
    """For how long a core was busy, whatever with, since the system's start."""
    line = re.search(rf"^cpu{core} (.*)$", pathlib.Path("/proc/stat").read_text(), re.MULTILINE)
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, line[1].split())
    return (user + nice + system + irq + softirq + steal) / CLOCK


def resident_bytes(pid, peak=False):
    """Of a process and its children, now or at most so far. What they share counts for each."""
    field = "VmHWM" if peak else "VmRSS"
    status = "".join(pathlib.Path(f"/proc/{member}/status").read_text() for member in family(pid))
    sizes = re.findall(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    if not sizes:
        sys.exit(f"process {pid} has ended")
    return 1024 * sum(map(int, sizes))


@contextlib.contextmanager
def backends(testkit, weights, slots_per_weight=0):
    """`weft-testkit backend` for each weight, as (port, weight)."""
    running, started = [], []
    try:
        for index, weight in enumerate(weights):
            port = free_port()
            command = [testkit, "backend", "--port", port, "--name", f"b{index}", "--slots", slots_per_weight * weight]
            running.append(pinned(LOAD_CORE, command, stderr=subprocess.DEVNULL))
            wait_port(port, running[-1])
            started.append((port, weight))
        yield started
    finally:
        for process in running:
            stop(process)


def control(port, mode):
    """Tells a backend what to do; its account if that is asked for."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/control", headers={"x-mode": mode})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200:
        sys.exit(f"the backend on {port} refuses {mode}: {text}")
    return json.loads(text) if text else None


def wait_idle(backends):
    """All well, and nothing in flight that was left by whoever had its turn."""
    for port, _ in backends:
        control(port, "well")
    deadline = time.monotonic() + DRAIN_SECONDS
    while any(control(port, "report")["in_flight"] for port, _ in backends):
        if time.monotonic() > deadline:
            sys.exit("calls are left in flight")
        time.sleep(0.1)


def rotated(candidates, turn):
    """Whoever begins is another one in every round."""
    first = turn % len(candidates)
    return candidates[first:] + candidates[:first]
