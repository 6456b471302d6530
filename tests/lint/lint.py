#!/usr/bin/env python3
"""Rules of the tree that a compiler does not check. usage: tests/lint/lint.py RULE [--build DIR]

Each rule prints what breaks it as file:line: text and exits 1; 0 when nothing does. CTest runs every rule as lint.<rule>.
"""
import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 900
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')

OPENSSL, EPOLL, LIBPQ, NNG = "openssl/", "sys/epoll.h", "libpq-fe.h", "nng/"
MICROHTTPD, ARGON2, JANSSON, YAML = "microhttpd.h", "argon2.h", "jansson.h", "yaml.h"
PCRE2, ICU, ZSTD, VECTORSCAN = "pcre2.h", "unicode/", "zstd.h", "hs.h"
GUARDED = [OPENSSL, EPOLL, LIBPQ, NNG, MICROHTTPD, ARGON2, JANSSON, YAML, PCRE2, ICU, ZSTD, VECTORSCAN]
OUR_ROOTS = ("wire/", "base/", "db/", "auth/", "text/", "evaluate/", "policy/", "rpc/", "http/", "service/", "app/", "forge/", "google/", "support/",
             "load/")

# folder -> (our folders it may include, guarded headers it may include). Longest matching folder wins.
LAYERS = {
    "proto/wire": (["wire/", "forge/v1/", "google/"], [JANSSON]),
    "proto/stubgen": (["wire/", "forge/v1/", "google/"], []),
    "server/base": (["base/", "wire/"], []),
    "server/db": (["db/", "base/", "wire/"], [LIBPQ]),
    "server/auth": (["auth/", "db/", "base/", "wire/", "forge/v1/", "google/"], [ARGON2]),
    "server/text": (["text/", "wire/"], [JANSSON]),
    "server/evaluate": (["evaluate/", "text/", "wire/", "forge/v1/", "google/"], [JANSSON]),
    "server/policy": (["policy/", "evaluate/", "auth/token.h", "wire/", "forge/v1/", "google/"], []),
    "server/rpc": (["rpc/", "auth/", "base/", "wire/", "forge/v1/", "google/", "db/pool.h", "db/tx.h", "db/stmt.h", "db/row.h",
                    "db/change_feed.h"], []),
    "server/http": (["http/", "base/", "wire/"], [MICROHTTPD]),
    "server/service": (["rpc/call.h", "rpc/write.h", "rpc/page.h", "rpc/usage.h", "base/", "db/", "auth/", "text/", "evaluate/",
                        "policy/", "wire/",
                        "forge/v1/", "google/"], []),
    "server/app": (["app/", "rpc/", "service/", "http/", "auth/", "db/", "base/", "wire/", "forge/v1/", "google/"], []),
    "client/include": (["forge/", "google/", "wire/status.h"], []),
    "client/src": (["forge/", "google/", "wire/", "src/"], []),
    "client/forgectl": (["forge/", "google/", "wire/json.h", "wire/arena.h", "wire/status.h", "wire/template.h", "forgectl/"], [YAML, JANSSON]),
    "client/examples": (["forge/", "google/", "wire/status.h"], []),
    "tests/load": (["forge/", "google/", "wire/status.h", "load/"], []),
}
# what a service offers to others
OFFERED = ["service/policy/in_force.h", "service/policy/violation_write.h"]
# file -> guarded headers it may include beyond its folder's
FILES = {
    "proto/wire/loop.c": [EPOLL],
    "proto/wire/tls.c": [OPENSSL], "proto/wire/crypto.c": [OPENSSL],
    "server/db/archive_file.c": [ZSTD],
    "server/evaluate/pattern.c": [PCRE2],
    "server/evaluate/text.c": [ICU],
    "server/policy/accelerate.c": [VECTORSCAN],
    "server/rpc/nng_listener.c": [NNG],
    "server/text/fold.c": [ICU], "server/text/words.c": [ICU],
}


def files(*suffixes):
    listed = subprocess.run(["git", "-C", str(SOURCE), "ls-files", "--cached", "--others", "--exclude-standard"], check=True,
                            capture_output=True, text=True).stdout.splitlines()
    return [name for name in listed if name.endswith(suffixes) and (SOURCE / name).is_file()]


def layer_of(name):
    folders = [folder for folder in LAYERS if name.startswith(folder + "/")]
    return max(folders, key=len) if folders else None


def may_see(name, folder, header):
    ours, guarded = LAYERS[folder]
    for guard in GUARDED:
        if header.startswith(guard):
            wire_tls = guard == OPENSSL and re.match(r"proto/wire/(link|tls)(_\w+)?\.[ch]$", name)
            return guard in guarded or guard in FILES.get(name, []) or bool(wire_tls)
    if folder == "server/service" and header.startswith("service/"):
        own = name.split("/")[2]
        return header.startswith(f"service/{own}/") or header.count("/") == 1 or header in OFFERED
    return not header.startswith(OUR_ROOTS) or header.startswith(tuple(ours))


def rule_layers(_):
    """#include lines keep to the layers of server/ARCHITECTURE.md."""
    for name in files(".c", ".h", ".cc"):
        folder = layer_of(name)
        if not folder:
            continue
        for number, line in enumerate((SOURCE / name).read_text().splitlines(), 1):
            found = INCLUDE.match(line)
            if found and not may_see(name, folder, found.group(1)):
                yield f"{name}:{number}: {folder} must not include {found.group(1)}"


def include_flags(build):
    roots = ["proto", "proto/stubgen", "server", "client/include", "client/src", "client", "tests"]
    flags = [f"-I{SOURCE / root}" for root in roots] + [f"-I{build / 'gen'}", f"-I{build / 'gen/server'}", f"-I{build / 'gen/client'}"]
    packages = subprocess.run(["pkg-config", "--cflags", "libpq", "libprotobuf-c", "cmocka"], check=True, capture_output=True, text=True)
    return flags + packages.stdout.split()


def compile_header(command, name):
    done = subprocess.run(command + ["-x", "c++" if command[0] == "g++" else "c", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
                                     "-Wno-unused-parameter", str(SOURCE / name)], capture_output=True, text=True)
    return [f"{name}: not self-contained for {command[0]}: {done.stderr.splitlines()[0] if done.stderr else '?'}"] if done.returncode else []


def rule_headers(options):
    """Every header compiles alone; the public ones also as C++."""
    flags = include_flags(options.build)
    jobs = [(["gcc", "-std=gnu17", "-D_GNU_SOURCE"] + flags, name) for name in files(".h")]
    public = [name for name in files(".h") if name.startswith("client/include/") or name == "proto/wire/status.h"]
    jobs += [(["g++", "-std=c++17"] + flags, name) for name in public]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for faults in pool.map(lambda job: compile_header(*job), jobs):
            yield from faults


def rule_symbols(options):
    """libforge exports its public functions and the generated messages, nothing else."""
    library = options.build / "lib/libforge.so"
    listed = subprocess.run(["nm", "-D", "--defined-only", str(library)], check=True, capture_output=True, text=True).stdout
    names = [line.split()[-1].split("@")[0] for line in listed.splitlines()]
    names = [name for name in names if not name.startswith("__odr_asan.")]  # AddressSanitizer's own, one per global
    text = "".join(header.read_text() for header in (SOURCE / "client/include").rglob("*.h"))
    text += "".join(header.read_text() for header in (options.build / "gen/client").rglob("*.h")) + (SOURCE / "proto/wire/status.h").read_text()
    for name in names:
        if not re.match(r"(forge__v1__|google__protobuf__)", name) and not re.search(rf"\b{re.escape(name)}\b", text):
            yield f"libforge.so: exports {name}, which no public header declares"
    if not names:
        yield "libforge.so: exports nothing"


def rule_generated(_):
    """Generated code lives in the build tree."""
    for name in files(""):
        if re.search(r"(\.pb-c\.[ch]|\.pb\.(cc|h)|sql_statements\.[ch]|rpc_table\.[ch]|(^|/)calls\.[ch])$", name) or name.startswith("build/"):
            yield f"{name}: generated, must not be in git"


def rule_sizes(_):
    """Functions have at most 70 lines, files at most 900."""
    names = files(".c", ".h", ".cc")
    for name in names + files(".py", ".sql", ".sh"):
        lines = len((SOURCE / name).read_text().splitlines())
        if lines > FILE_LINES_MAX:
            yield f"{name}: {lines} lines, more than {FILE_LINES_MAX}"
    tags = subprocess.run(["ctags", "-f", "-", "--fields=+ne", "--kinds-C=f", "--kinds-C++=f", "--language-force=C"] + names, cwd=SOURCE,
                          check=True, capture_output=True, text=True).stdout
    for tag in tags.splitlines():
        name, path = tag.split("\t")[:2]
        first, last = re.search(r"\bline:(\d+)", tag), re.search(r"\bend:(\d+)", tag)
        if first and last and int(last.group(1)) - int(first.group(1)) + 1 > FUNCTION_LINES_MAX:
            yield f"{path}:{first.group(1)}: {name} has {int(last.group(1)) - int(first.group(1)) + 1} lines, more than {FUNCTION_LINES_MAX}"


def format_faults(names):
    done = subprocess.run(["clang-format-14", "--dry-run", "--Werror"] + names, cwd=SOURCE, capture_output=True, text=True)
    return sorted({line.split(":")[0] for line in done.stderr.splitlines() if "-Wclang-format-violations" in line})


def rule_format(_):
    """clang-format has nothing to change."""
    names = files(".c", ".h")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for faults in pool.map(format_faults, [names[start:start + 25] for start in range(0, len(names), 25)]):
            yield from (f"{name}: clang-format-14 -i would change it" for name in faults)


def tidy_faults(name, build):
    # The static analyzer's checks take minutes: the lint preset runs them, over the tests too.
    done = subprocess.run(["clang-tidy-14", "--quiet", "--checks=-clang-analyzer-*", "-p", str(build), "--extra-arg=-Wno-error",
                           "--extra-arg=-Wno-unknown-warning-option", name], cwd=SOURCE, capture_output=True, text=True)
    found = [line.replace(f"{SOURCE}/", "") for line in done.stdout.splitlines() if re.search(r": (error|warning): ", line)]
    return found or ([f"{name}: {done.stderr.strip()}"] if done.returncode else [])


def rule_tidy(options):
    """clang-tidy has nothing to say of the product's code."""
    names = [name for name in files(".c") if name.startswith(("proto/", "server/", "client/", "tests/load/"))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for faults in pool.map(lambda name: tidy_faults(name, options.build), names):
            yield from faults


def rule_finished(_):
    """No marks of unfinished work, no paths of one machine."""
    folders = [str(folder) for folder in (SOURCE, Path.home()) if str(folder) != "/"]
    paths = "|".join(rf"(?<![\w.]){re.escape(folder)}/" for folder in folders)
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b" + ("|" + paths if paths else ""))
    for name in files(".c", ".h", ".cc", ".py", ".sh", ".sql", ".proto", ".md", ".txt", ".yaml", "run", "up", "down", "backup", "restore", "reset"):
        if name == "tests/lint/lint.py":
            continue
        for number, line in enumerate((SOURCE / name).read_text().splitlines(), 1):
            found = marks.search(line)
            if found:
                yield f"{name}:{number}: {found.group(0)}"


def rule_shell(_):
    """shellcheck has nothing to say of the shell scripts."""
    names = [name for name in files("") if name.endswith(".sh") or re.match(rb"#!.*\b(ba)?sh\n", (SOURCE / name).read_bytes()[:80])]
    done = subprocess.run(["shellcheck", "--external-sources", "--format=gcc"] + names, cwd=SOURCE, capture_output=True, text=True)
    yield from (done.stdout + done.stderr).splitlines()
    if len(names) < 5:
        yield "hardly any shell script found"


def rule_toplevel(_):
    """The top level holds what the product's shape names and what tools demand there."""
    allowed = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "proto", "server", "client", "migrations", "seeds", "tests", "deploy"}
    for name in sorted({name.split("/")[0] for name in files("")}):
        if name not in allowed and not name.startswith("."):
            yield f"{name}: does not belong at the top level"


def table_of_readme():
    """method -> (role, scopes, write, class, slow, timeout) as proto/README.md has them."""
    rows = {}
    for line in (SOURCE / "proto/README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `forge.v1.") and len(cells) >= 7:
            rows[cells[0].strip("`")] = tuple(cells[1:7])
    return rows


def table_of_rules():
    """The same as server/auth/rules.c has them."""
    access = {"PUBLIC": ("-", "-"), "OPERATOR": ("B", "operator"), "ANY": ("V", "any"), "SESSION": ("V", "session"),
              "VIEWER": ("V", "read"), "DEVELOPER": ("D", "write"), "ADMIN": ("A", "admin")}
    row = re.compile(r'\{"(forge\.v1\.\w+/\w+)",\s*(\w+),\s*(YES|NO),\s*(\w+),\s*(\w+),\s*\w+,\s*(YES|NO),\s*(?:YES|NO),\s*(\d+),')
    rows = {}
    for method, who, ingest, write, queue, slow, timeout in row.findall((SOURCE / "server/auth/rules.c").read_text()):
        role, scope = access[who]
        rows[method] = (role, scope + (", ingest" if ingest == "YES" else ""), "no" if write == "READ" else "yes", queue.lower(),
                        "yes" if slow == "YES" else "no", timeout)
    return rows


def rule_methods(_):
    """Every RPC of the .proto files stands in proto/README.md and in rules.c, with the same role, scope, write, class, slow and deadline."""
    described = set()
    for path in (SOURCE / "proto/forge/v1").glob("*.proto"):
        service = None
        for line in path.read_text().splitlines():
            if found := re.match(r"service (\w+)", line):
                service = found.group(1)
            elif found := re.match(r"\s+rpc (\w+)\(", line):
                described.add(f"forge.v1.{service}/{found.group(1)}")
    readme, rules = table_of_readme(), table_of_rules()
    for method in sorted(described | set(readme) | set(rules)):
        for where, there in (("a .proto file", described), ("proto/README.md", readme), ("server/auth/rules.c", rules)):
            if method not in there:
                yield f"{method}: missing in {where}"
        if method in readme and method in rules and readme[method] != rules[method]:
            yield f"{method}: proto/README.md says {readme[method]}, rules.c {rules[method]}"
    if not described:
        yield "proto/forge/v1: no RPC found"


def rule_settings(_):
    """Every setting of server/app/settings.c stands in .env.example and takes effect somewhere in server/app."""
    rows = re.findall(r'\{\.name = "(\w+)", \.variable = "(\w+)", .*?\.offset =\s*FIELD\(([\w.]+)\)', (SOURCE / "server/app/settings.c").read_text(), re.S)
    example = (SOURCE / ".env.example").read_text()
    used = "".join((SOURCE / "server/app" / name).read_text() for name in ("serve.c", "admin.c", "migrate.c", "owner.c", "config.c", "maintain.c"))
    for name, variable, field in rows:
        if f"\n#{variable}=" not in example:
            yield f".env.example: {variable} is missing"
        if not field.startswith("rpc.") and field not in used:
            yield f"server/app/settings.c: nothing reads {name}"
    if not rows:
        yield "server/app/settings.c: no setting found"


def rule_schema(_):
    """While there is one revision, migrations/schema.sql holds its statements. Later `forged migrate check` compares what they make."""
    revisions = sorted((SOURCE / "migrations").glob("*.up.sql"))
    statements = [path.read_text().partition("\nCREATE SCHEMA ")[2] for path in [SOURCE / "migrations/schema.sql", *revisions]]
    if len(revisions) == 1 and statements[0] != statements[1]:
        yield f"migrations/schema.sql: not what {revisions[0].name} says; copy the statements, from CREATE SCHEMA on"


def rule_commands(options):
    """client/man/forgectl.1.md is what forgectl says of its commands: every one is documented, and as it is."""
    said = subprocess.run([options.build / "bin/forgectl", "help", "--markdown"], check=True, capture_output=True, text=True).stdout
    written = (SOURCE / "client/man/forgectl.1.md").read_text()
    if said != written:
        yield "client/man/forgectl.1.md: differs from `forgectl help --markdown`; write that output to it"
    if said.count("\n## forgectl ") < 10:
        yield "forgectl help --markdown: names hardly any command"


def rule_readme(options):
    """The client in README.md compiles without a warning; every file that README.md links to is there."""
    text = (SOURCE / "README.md").read_text()
    programs = re.findall(r"```c\n(.*?)```", text, re.S)
    for program in programs:
        done = subprocess.run(["gcc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c", "-"] + include_flags(options.build),
                              input=program, capture_output=True, text=True)
        if done.returncode:
            yield f"README.md: its client does not compile: {done.stderr.splitlines()[0]}"
    if not programs:
        yield "README.md: no client program found"
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        if not (SOURCE / link).exists():
            yield f"README.md: links to {link}, which is not there"


RULES = {name[len("rule_"):]: function for name, function in globals().items() if name.startswith("rule_")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="\n".join(f"{name}: {function.__doc__}" for name, function in RULES.items()))
    parser.add_argument("rule", choices=RULES)
    parser.add_argument("--build", type=Path, default=SOURCE / "build/dev", help="build folder (build/dev)")
    options = parser.parse_args()
    faults = list(RULES[options.rule](options))
    for fault in faults:
        print(fault)
    print(f"{options.rule}: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
