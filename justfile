# What one does here day by day. `just` lists it.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Seconds each fuzz target runs.
fuzz_seconds := "10"
# How long a soak takes, and the round after it at most.
soak_minutes := "20"
soak_round := "30m"

_default:
    @just --list --unsorted

# Format the code.
fmt:
    cargo fmt --all

# Clippy and docs, warnings denied.
lint:
    cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items --quiet

# Every test, the real SDKs included; what it needs and is missing gets installed.
test *args:
    ./test {{ args }}

# Everything at once for so many minutes (1,000 streams, churn, faults, restarts of Postgres), then the promises about money at their
# full size: `just soak 60`.
soak minutes=soak_minutes:
    #!/usr/bin/env bash
    set -euo pipefail
    . scripts/lib.sh
    need_rust && need_postgres && need_pgbouncer
    # A thousand streams are two thousand sockets in the tests' own process.
    ulimit -n "$(ulimit -Hn)"
    TURNPIKE_SOAK_SECONDS=$(({{ minutes }} * 60)) cargo test --locked --quiet --package gateway --test gateway -- --nocapture faults::soak::
    # A round that hangs is a failure, too.
    TURNPIKE_SOAK=1 timeout {{ soak_round }} cargo test --locked --quiet --package gateway --test gateway -- replicas:: faults:: upstream_faults::

# h2load and slowhttptest against a gateway of their own: `just siege 60` for a minute of each kind.
siege seconds="30":
    scripts/siege {{ seconds }}

# psql into DATABASE_URL, else into the private Postgres of a running ./run.
db *args:
    #!/usr/bin/env bash
    set -euo pipefail
    if [ -n "${DATABASE_URL:-}" ]; then exec psql "$DATABASE_URL" {{ args }}; fi
    home=$([ "$(id -u)" = 0 ] && echo /var/lib/turnpike || echo "${XDG_STATE_HOME:-$HOME/.local/state}/turnpike")
    # The fifth line of Postgres' own note is the directory of its socket.
    socket=$(sed -n 5p "${DATA_DIR:-$home}/postgres/postmaster.pid")
    exec psql --host "$socket" --username postgres turnpike {{ args }}

# Every fuzz target for a while: `just fuzz 60`. Needs cargo-fuzz; a stable toolchain does, since what is fuzzed is safe Rust and
# goes without the sanitizers, which alone need a nightly one.
fuzz seconds=fuzz_seconds:
    cd fuzz && for target in $(cargo fuzz list); do cargo fuzz run --sanitizer none "$target" -- -max_total_time={{ seconds }}; done

# The benches; `just bench scanner` runs those whose name has `scanner` in it.
bench *args:
    cargo bench --locked --package benches {{ args }}

# Builds an earlier revision (the newest tag, else what is named) and has it serve while this one migrates its database and takes over.
previous revision="":
    scripts/previous {{ revision }}

# Dependencies: who may use what, licences, sources. Advisories need the network: `just deny advisories`.
deny *checks="bans licenses sources":
    cargo deny check {{ checks }}

# Exactly what decides whether a change lands.
ci:
    .ci/run
