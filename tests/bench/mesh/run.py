#!/usr/bin/env python3
"""The whole mesh on embedded backends: how soon it is ready, what it idles at, how fast it ingests and answers.

    python3 tests/bench/mesh/run.py [--starts 5] [--asks 5] [--documents 1000] [--weft PATH]

Builds `weft` with the release profile (or takes --weft) and runs `weft up` in a fresh folder on free ports. Documents
are small Markdown files (200 B to 16 KiB) from Cargo's registry, as many as it holds, and generated ones for the rest.
Time to ready is from the start of the process to its summary; time to the first token is from the start of `weft ask`
to its first byte of output, the process's own start included. Each is a median, with the spread. Nothing outlives the
script, and it takes about a minute.
"""

import argparse
import os
import pathlib
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
CLOCK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SIZES = range(200, 16 * 1024)
IDLE_SECONDS = 10
# Longer than anything takes on a machine that works.
LIMIT_SECONDS = 120
QUESTIONS = [
    "How do I enable a feature of the crate?",
    "Which minimum Rust version is supported?",
    "How are errors handled?",
    "What changed in the last release?",
    "How is the license chosen?",
]


class Mesh:
    """A running `weft up`."""

    def __init__(self, weft, folder):
        self.weft, self.folder = weft, folder
        self.gateway, self.admin, config = ports()
        (folder / "weft.toml").write_text(config)
        began = time.monotonic()
        command = [weft, "up", "--config", folder / "weft.toml", "--data-dir", folder / "data"]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=log)
        try:
            said = read_until(self.process.stdout, b"Ctrl-C stops it")
            self.ready_seconds = time.monotonic() - began
            if b"is up after" not in said:
                sys.exit(f"not all of it is ready:\n{said.decode()}{(folder / 'log').read_text()}")
        except BaseException:
            self.stop()
            raise

    def command(self, *arguments):
        return [self.weft, "--gateway", f"http://{self.gateway}", "--admin", f"http://{self.admin}", *arguments]

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK

    def resident_mb(self):
        pages = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * PAGE / 1e6

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ports():
    """Gateway, its admin port, and a configuration with every port free."""
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        gateway, admin = (f"127.0.0.1:{probe.getsockname()[1]}" for probe in (one, two))
    text = f'[gateway]\nlisteners = [{{ address = "{gateway}" }}]\nadmin = {{ address = "{admin}" }}\n'
    for service in ("cache", "database", "queue", "assets"):
        text += f'[{service}]\naddress = "127.0.0.1:0"\nadmin = {{ address = "127.0.0.1:0" }}\n'
    return gateway, admin, text


def environment():
    """Nothing that could change what is measured."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def read_until(pipe, wanted):
    """What comes out of a pipe until it holds `wanted`, its end, or no more time."""
    said, deadline = b"", time.monotonic() + LIMIT_SECONDS
    while wanted not in said:
        if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            sys.exit(f"nothing more came within {LIMIT_SECONDS} s:\n{said.decode()}")
        piece = os.read(pipe.fileno(), 65536)
        if not piece:
            break
        said += piece
    return said


def build():
    subprocess.run(["cargo", "build", "--release", "-p", "weft"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "weft"


def write_documents(folder, count):
    """Copies what Cargo's registry holds, makes the rest, and says how many of each, and how many bytes."""
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    found = sorted((home / "registry" / "src").glob("**/*.md"))
    found = [path for path in found if path.is_file() and path.stat().st_size in SIZES][:count]
    for number, path in enumerate(found):
        shutil.copyfile(path, folder / f"{number:05}-{path.parent.name}-{path.name}")
    for number in range(len(found), count):
        text = f"# Note {number}\n\n" + f"The keeper of lighthouse {number} counted {number * 7} ships.\n\n" * (number % 60 + 5)
        (folder / f"{number:05}.md").write_text(text)
    return len(found), sum(path.stat().st_size for path in folder.iterdir())


def ingest(mesh, folder):
    command = mesh.command("ingest", ".")
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=10 * LIMIT_SECONDS)
    if done.returncode:
        sys.exit(f"weft ingest failed:\n{done.stdout}{done.stderr}")
    return time.monotonic() - began, done.stdout.strip()


def ask(mesh, question):
    """Seconds to the first byte of the answer."""
    began = time.monotonic()
    process = subprocess.Popen(
        mesh.command("ask", question), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        if not select.select([process.stdout], [], [], LIMIT_SECONDS)[0]:
            sys.exit(f"no answer within {LIMIT_SECONDS} s")
        first = time.monotonic() - began
        answer, errors = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        process.kill()
        process.wait()
    if process.returncode or not answer:
        sys.exit(f"weft ask failed:\n{errors.decode()}")
    return first


def median(values, unit=1000, name="ms"):
    values = [value * unit for value in values]
    return f"{statistics.median(values):.0f} {name} ({min(values):.0f}-{max(values):.0f}, median of {len(values)})"


def measure_starts(weft, count):
    seconds = []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            mesh = Mesh(weft, pathlib.Path(folder))
            mesh.stop()
            seconds.append(mesh.ready_seconds)
    print(f"time to ready            {median(seconds)}", flush=True)


def measure_idle(mesh):
    # What a start leaves to be done is done by then.
    time.sleep(3)
    before = mesh.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    used = (mesh.cpu_seconds() - before) / IDLE_SECONDS
    print(f"idle                     {mesh.resident_mb():.0f} MB resident, {used:.2%} of a core over {IDLE_SECONDS} s", flush=True)


def measure_documents(mesh, folder, arguments):
    folder.mkdir()
    copied, size = write_documents(folder, arguments.documents)
    elapsed, said = ingest(mesh, folder)
    made = arguments.documents - copied
    print(f"documents                {arguments.documents}, {size / 1e6:.1f} MB: {copied} from Cargo's registry, {made} generated")
    print(f"ingested                 {arguments.documents / elapsed:.0f} documents/s ({said})", flush=True)
    first = [ask(mesh, QUESTIONS[turn % len(QUESTIONS)]) for turn in range(arguments.asks)]
    print(f"first token of weft ask  {median(first)}")
    print(f"afterwards               {mesh.resident_mb():.0f} MB resident")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--asks", type=int, default=5)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--weft", type=pathlib.Path, help="a binary built before")
    arguments = parser.parse_args()
    weft = (arguments.weft or build()).resolve()
    version = subprocess.run([weft, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    print(f"{version} ({commit.stdout.strip() or 'no commit'}), {os.cpu_count()} cores", flush=True)
    measure_starts(weft, arguments.starts)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        mesh = Mesh(weft, folder)
        try:
            measure_idle(mesh)
            measure_documents(mesh, folder / "documents", arguments)
        finally:
            mesh.stop()


if __name__ == "__main__":
    main()
