# Shared by up and down: where things are, and who runs PostgreSQL. Sourced with set -euo pipefail.
# shellcheck shell=bash
# shellcheck disable=SC2034  # used by the scripts that source this file

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
state=$root/build/local
build=$root/build/release
postgres=$state/postgres # the cluster, or a link to it (see make_cluster in up)

say() { printf '%s\n' "$*"; }
step() { printf '==> %s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# PostgreSQL refuses to run as root: then it runs as the user that Debian's package made.
as_postgres() {
    if ((EUID == 0)); then
        (cd / && setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/var/lib/postgresql "$@")
    else
        "$@"
    fi
}

postgres_bin() {
    local newest
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    [[ -x $newest/initdb ]] || fail "PostgreSQL is not installed"
    printf '%s' "$newest"
}

cluster_runs() { [[ -d $postgres/ ]] && as_postgres "$(postgres_bin)/pg_ctl" -D "$(readlink -f "$postgres")" status >/dev/null 2>&1; }

# Is it still our server, or another process that got its number?
forged_runs() {
    local pid
    pid=$(cat "$state/forged.pid" 2>/dev/null) || return 1
    [[ $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) == "$build/bin/forged serve"* ]]
}

# Calls a command again until it succeeds, at most so many seconds.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

stop_forged() {
    local pid
    forged_runs || return 0
    pid=$(cat "$state/forged.pid")
    kill -TERM "$pid"
    wait_until 30 bash -c "! kill -0 $pid 2>/dev/null" || kill -KILL "$pid"
    rm -f "$state/forged.pid"
}
