#!/usr/bin/env bash
# Runs the commands of a page in deploy/: every block marked ```sh, in their order, in one shell. What they need is made here: a real
# Postgres with Turnpike's database, an account, a gateway with the sandbox model, all in a directory that goes when it ends.
#   tests/deploy/page.sh PAGE PROGRAM
set -euo pipefail

page=$(realpath "$1") program=$(realpath "$2")
root=$(realpath "$(dirname "$0")/../..")
postgres=$(dirname "$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -1 || command -v postgres)")

# Postgres does not run as root, so nothing here does.
if [ "$(id -u)" = 0 ]; then
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    cp "$program" "$dir/turnpike"
    cp "$0" "$page" "$dir/"
    cp -r "$root/deploy" "$dir/deploy"
    mkdir "$dir/bin"
    chown -R postgres: "$dir"
    cd "$dir"
    TMPDIR=$dir setpriv --reuid postgres --regid postgres --init-groups env HOME="$dir" bash "$dir/$(basename "$0")" "$dir/$(basename "$page")" "$dir/turnpike"
    exit
fi

work=$(mktemp -d)
mkdir -p "$work/bin"
ln -s "$program" "$work/bin/turnpike"
export PATH="$work/bin:$postgres:$PATH:/usr/sbin"
cd "$work"
trap 'status=$?
    [ "$status" = 0 ] || tail -n 40 ./*.log >&2
    kill $(jobs -p) 2>/dev/null || true
    wait
    for data in */PG_VERSION; do pg_ctl --silent --pgdata "$(dirname "$data")" --mode immediate stop 2>/dev/null || true; done
    rm -rf "$work"' EXIT

# The first of four free ports, below those that the system gives to clients.
free_port() {
    python3 - <<'PYTHON'
import random, socket
while True:
    port = random.randrange(20000, 32000, 4)
    try:
        for number in range(port, port + 4):
            socket.socket().bind(("127.0.0.1", number))
    except OSError:
        continue
    print(port)
    break
PYTHON
}

# As an operator has it: a server on a port, the owner's URL and the gateway's.
export PGPORT PGHOST=127.0.0.1 PGUSER=postgres
PGPORT=$(free_port)
initdb --username postgres --auth trust --encoding UTF8 --locale C --pgdata primary >initdb.log
cat >>primary/postgresql.conf <<CONF
port = $PGPORT
listen_addresses = '127.0.0.1'
unix_socket_directories = '$work'
wal_level = replica
CONF
pg_ctl --silent --wait --pgdata primary --log primary.log start
createdb turnpike
export OWNER_URL="postgres://postgres@127.0.0.1:$PGPORT/turnpike" GATEWAY_URL="postgres://gateway@127.0.0.1:$PGPORT/turnpike"
DATABASE_URL=$OWNER_URL turnpike migrate >migrate.log 2>&1
psql --quiet "$OWNER_URL" --command "create role gateway login in role turnpike_gateway" \
    --command "select turnpike.set_price('sandbox', input => 0.15, output => 0.60, context_window => 128000, output_max => 256)" >/dev/null
DATABASE_URL=$OWNER_URL turnpike account top-up alice 20 --create >/dev/null
OPENAI_API_KEY=$(psql --tuples-only --no-align "$OWNER_URL" --command "select token from turnpike.issue_token(account => 'alice')")
export OPENAI_API_KEY

# serving NAME SETTING...: a gateway of this name, on ports of its own; its address is in the variable NAME.
serving() {
    local name=$1 clients admin
    shift
    clients=$(free_port) admin=$(free_port)
    env -u OPENAI_API_KEY BIND_ADDRESS=127.0.0.1 PORT="$clients" ADMIN_ADDRESS="127.0.0.1:$admin" DATABASE_URL="$GATEWAY_URL" MIGRATE=false \
        DATA_DIR="$work/data" WORKERS=1 "$@" turnpike serve >"$name.log" 2>&1 &
    printf -v "${name}_pid" %s "$!"
    printf -v "$name" %s "http://127.0.0.1:$clients/v1"
    printf -v "${name}_admin" %s "http://127.0.0.1:$admin"
    for _ in $(seq 300); do
        if curl --silent --fail --output ready.log "http://127.0.0.1:$admin/readyz"; then return; fi
        kill -0 "$!" || return 1
        sleep 0.1
    done
    return 1
}

# stopped NAME: drained and gone.
stopped() {
    local pid="${1}_pid"
    kill -TERM "${!pid}"
    wait "${!pid}"
}

# A call by the gateway at this address; it must be answered.
call() {
    curl --silent --show-error --fail --output answer.log "$1/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" \
        -H 'Content-Type: application/json' -d '{"model": "sandbox", "messages": [{"role": "user", "content": "Hello"}]}'
}

serving gateway
call "$gateway"
call "$gateway"

# shellcheck disable=SC1090
source <(awk '/^```sh$/ { runs = 1; print "echo \"--- line " NR + 1 "\""; next } /^```/ { runs = 0 } runs' "$page")

# Whatever the page did, the books are right.
call "$gateway"
stopped gateway
DATABASE_URL=$OWNER_URL turnpike audit
echo "the page does what it says"
