# Shared by the scripts beside it: where things are, who runs PostgreSQL, and how its database is reached. Sourced with set -euo pipefail.
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

# ---- the database of an env file, for backup, restore and reset ----

env_file=$state/.env # of deploy/local/up; --env-file names another one

# Value of a variable in the env file, "" when it is not there.
env_value() { sed -n "s/^[[:space:]]*$1=[\"']\{0,1\}\([^\"']*\).*/\1/p" "$env_file" | tail -n 1; }

require_env_file() { [[ -r $env_file ]] || fail "$env_file cannot be read: run deploy/local/up, or name another one with --env-file"; }

# Path of the key-encryption key; a relative one is meant from the env file's folder.
key_file() {
    local path
    path=$(env_value FORGE_KEY_FILE)
    [[ -n $path ]] || fail "$env_file does not set FORGE_KEY_FILE"
    [[ $path == /* ]] || path=$(cd "$(dirname "$env_file")" && pwd)/$path
    printf '%s' "$path"
}

# with_url VARIABLE PROGRAM [ARGUMENT...]: runs a PostgreSQL program on the database that the env file's variable names. The password goes
# by the environment: other users can read command lines. PG_BINDIR: folder of the programs, where they are not those of PATH.
with_url() {
    local variable=$1 program=$2 url password=
    shift 2
    url=$(env_value "$variable")
    [[ -n $url ]] || fail "$env_file does not set $variable: run forged bootstrap roles"
    url=${url/#postgresql+*:\/\//postgresql:\/\/}
    if [[ $url =~ ^([a-z]+://[^:/@]*):([^@]*)(@.*)$ ]]; then
        url=${BASH_REMATCH[1]}${BASH_REMATCH[3]}
        password=$(printf '%b' "${BASH_REMATCH[2]//\%/\\x}")
    fi
    [[ -z ${PG_BINDIR:-} ]] || program=$PG_BINDIR/$program
    (
        [[ -z $password ]] || export PGPASSWORD=$password
        PGOPTIONS='-c client_min_messages=warning' "$program" --dbname="$url" "$@"
    )
}

owner_psql() { with_url DATABASE_OWNER_URL psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 "$@"; }

# Servers must not write while the database is emptied. Ours is stopped, others are not ours to stop.
require_no_server() {
    local sessions
    [[ ! $env_file -ef $state/.env ]] || stop_forged
    sessions=$(owner_psql -c "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'forge_app'")
    ((sessions == 0)) || fail "forged is connected to this database ($sessions sessions): stop it first"
}

# confirm QUESTION: ends the script unless the answer is yes.
confirm() {
    local answer=
    printf '%s Type yes to go on: ' "$1" >&2
    read -r answer || true
    [[ $answer == yes ]] || fail "nothing was changed"
}
