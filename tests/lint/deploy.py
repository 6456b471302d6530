#!/usr/bin/env python3
"""Rules of the deployment files: what they name must exist and fit together. usage: tests/lint/deploy.py RULE [--build DIR]

Each rule prints what is wrong and exits 1; 0 when nothing is, 77 when what it needs is not on this machine. CTest runs every rule as
lint.deploy_<rule>.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

SOURCE = Path(__file__).resolve().parents[2]
DEPLOY = SOURCE / "deploy"
SKIPPED = 77


class Skip(Exception):
    pass


# ---- what the product has ----

def settings_default():
    """variable -> default, of .env.example."""
    return dict(re.findall(r"^#(\w+)=(.*)$", (SOURCE / ".env.example").read_text(), re.M))


def seconds(duration):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def packages(group):
    rows = [line.split() for line in (DEPLOY / "packages.txt").read_text().splitlines() if line and not line.startswith("#")]
    return [row[0] for row in rows if row[1] == group]


def check_words(options, program, words):
    """forged and forgectl have this command, and it takes these flags."""
    flags = [word.split("=")[0] for word in words if word.startswith("--")]
    command = []
    for word in words:
        if word.startswith("-") or "/" in word or len(command) == 2:
            break
        command.append(word)
    asked = subprocess.run([options.build / "bin" / program, *command, "--help"], capture_output=True, text=True)
    if asked.returncode != 0:
        yield f"{program} has no command \"{' '.join(command)}\""
    for flag in flags:
        if not re.search(rf"{flag}\b", asked.stdout):
            yield f"{program} {' '.join(command)} has no flag {flag}"


def check_script(options, text):
    """Lines of a shell script that call our programs."""
    for program, words in re.findall(r"(?:^|\(|exec |&& )(forged|forgectl) ([^)\n]*)", text, re.M):
        yield from check_words(options, program, [word for word in words.split() if word != "head"])


# ---- Kubernetes ----

def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def pods(objects):
    """(object, its pod template) of everything that starts pods."""
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield item, item["spec"]["template"]


def name_of(item):
    return f"{item['kind']} {item['metadata']['name']}"


def fits(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def check_container(options, where, container, volumes):
    security = container.get("securityContext", {})
    if security.get("readOnlyRootFilesystem") is not True or security.get("allowPrivilegeEscalation") is not False:
        yield f"{where}: root file system or privileges are not closed"
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield f"{where}: does not drop ALL capabilities"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
        yield f"{where}: no requests of cpu and memory, or no limit of memory"
    mounts = container.get("volumeMounts", [])
    for mount in mounts:
        if mount["name"] not in volumes:
            yield f"{where}: volume {mount['name']} is not there"
        if "subPath" in mount:
            yield f"{where}: subPath keeps changed secrets away"
    files = [word for word in container.get("args", []) if word.startswith("/")]
    files += [entry["value"] for entry in container.get("env", []) if entry.get("value", "").startswith("/")]
    for path in files:
        if not any(path.startswith(mount["mountPath"]) for mount in mounts):
            yield f"{where}: {path} is in no mounted volume"
    for entry in container.get("env", []):
        if entry["name"].startswith("FORGE_") and entry["name"] not in settings_default():
            yield f"{where}: forged has no setting {entry['name']}"
    if container["image"].split(":")[0] == "promptforge":
        if "args" in container:
            yield from (f"{where}: {fault}" for fault in check_words(options, "forged", container["args"]))
        yield from (f"{where}: {fault}" for fault in check_script(options, container.get("command", [""])[-1]))


def check_pod(options, item, template):
    where, spec = name_of(item), template["spec"]
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser") or security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield f"{where}: may run as root or without the seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield f"{where}: gets a token of the Kubernetes API"
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    volumes |= {claim["metadata"]["name"]: claim for claim in item["spec"].get("volumeClaimTemplates", [])}
    for name, volume in volumes.items():
        if "secret" in volume and volume["secret"].get("defaultMode") != 0o440:
            yield f"{where}: secret {name} is not 0440"
    for container in spec["containers"]:
        yield from check_container(options, where, container, volumes)


def check_server(deployment, settings):
    """The one Deployment: probes, and that it is not killed while it drains."""
    where, spec = name_of(deployment), deployment["spec"]["template"]["spec"]
    container = spec["containers"][0]
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        if container.get(probe, {}).get("httpGet") != {"path": path, "port": "http"}:
            yield f"{where}: {probe} does not ask {path}"
    command, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    drain = seconds(settings.get("FORGE_DRAIN_TIMEOUT", settings_default()["FORGE_DRAIN_TIMEOUT"]))
    if command != "sleep" or int(pause) + drain + 5 > spec["terminationGracePeriodSeconds"]:
        yield f"{where}: {spec['terminationGracePeriodSeconds']} s are too short for preStop ({pause} s) and drain ({drain} s)"
    if deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        yield f"{where}: a rollout takes servers away"
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    for port, variable in (("forge", "FORGE_LISTEN_PORT"), ("http", "FORGE_HTTP_PORT")):
        if ports.get(port) != settings.get(variable, settings_default()[variable]):
            yield f"{where}: port {port} is not {variable}"
    for variable, value in settings.items():
        if variable not in settings_default():
            yield f"{where}: forged has no setting {variable}"
        if value.startswith("/") and not any(value.startswith(mount["mountPath"]) for mount in container["volumeMounts"]):
            yield f"{where}: {variable}={value} is in no mounted volume"
    if settings.get("FORGE_HTTP_HOST", "127.0.0.1") == "127.0.0.1":
        yield f"{where}: probes cannot reach the HTTP address"


def check_references(objects):
    """Services, budgets, policies and accounts meet pods that are there."""
    labels = {name_of(item): template["metadata"]["labels"] for item, template in pods(objects)}
    names = {kind: {item["metadata"]["name"] for item in objects if item["kind"] == kind} for kind in ("ServiceAccount", "ConfigMap", "Secret")}
    for item in objects:
        selector = {"Service": lambda: item["spec"]["selector"], "PodDisruptionBudget": lambda: item["spec"]["selector"]["matchLabels"],
                    "NetworkPolicy": lambda: item["spec"]["podSelector"]["matchLabels"]}.get(item["kind"])
        if selector and not any(fits(selector(), pod) for pod in labels.values()):
            yield f"{name_of(item)}: selects no pod"
        if item["kind"] in ("Deployment", "StatefulSet") and not fits(item["spec"]["selector"]["matchLabels"], labels[name_of(item)]):
            yield f"{name_of(item)}: does not select its own pods"
        if item["kind"] == "ServiceAccount" and item.get("automountServiceAccountToken") is not False:
            yield f"{name_of(item)}: mounts its token"
        if item["kind"] == "Service" and item["spec"].get("clusterIP") != "None":
            yield f"{name_of(item)}: is not headless"
    policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
    for item, template in pods(objects):
        types = {kind for policy in policies if fits(policy["podSelector"]["matchLabels"], labels[name_of(item)]) for kind in policy["policyTypes"]}
        if types != {"Ingress", "Egress"}:
            yield f"{name_of(item)}: network policies leave it open"
        account = template["spec"].get("serviceAccountName")
        if account and account not in names["ServiceAccount"]:
            yield f"{name_of(item)}: no ServiceAccount {account}"
        for container in template["spec"]["containers"]:
            for source in container.get("envFrom", []):
                if source["configMapRef"]["name"] not in names["ConfigMap"]:
                    yield f"{name_of(item)}: no ConfigMap {source['configMapRef']['name']}"


def check_secrets(objects):
    """Every mounted secret is there, with the keys that are asked for."""
    secrets = {item["metadata"]["name"]: item["data"] for item in objects if item["kind"] == "Secret"}
    for item, template in pods(objects):
        for volume in template["spec"].get("volumes", []):
            if "secret" not in volume:
                continue
            wanted = volume["secret"]
            keys = secrets.get(wanted["secretName"])
            missing = [entry["key"] for entry in wanted.get("items", []) if entry["key"] not in (keys or {})]
            if keys is None or missing:
                yield f"{name_of(item)}: secret {wanted['secretName']} {'has no ' + missing[0] if keys else 'is not there'}"


def check_objects(options, objects):
    for item, template in pods(objects):
        yield from check_pod(options, item, template)
    servers = [item for item in objects if item["kind"] == "Deployment"]
    maps = [item["data"] for item in objects if item["kind"] == "ConfigMap"]
    if len(servers) != 1 or len(maps) != 1:
        yield f"{len(servers)} Deployments and {len(maps)} ConfigMaps, expected one of each"
    else:
        yield from check_server(servers[0], maps[0])
    yield from check_references(objects)


def files_of(folder):
    """Objects of a kustomization's own files; faults where it names too few or too many."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    named = {name for name in kustomization["resources"] if not name.startswith("..")}
    there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    faults = [f"{folder.relative_to(SOURCE)}: {name} is {'missing' if name in named else 'not in kustomization.yaml'}" for name in named ^ there]
    objects = [item for name in sorted(named & there) for item in documents(folder / name)]
    return kustomization, objects, faults


def rule_k8s(options):
    """The manifests' files, each as it stands: nothing but a YAML parser is needed."""
    base, objects, faults = files_of(DEPLOY / "k8s/base")
    yield from faults
    data = dict(line.split("=", 1) for line in base["configMapGenerator"][0]["literals"])
    settings = {"kind": "ConfigMap", "metadata": {"name": base["configMapGenerator"][0]["name"]}, "data": data}
    yield from check_objects(options, objects + [settings])
    for kind in ("Deployment", "Service", "Job", "PodDisruptionBudget", "ServiceAccount", "NetworkPolicy"):
        if not any(item["kind"] == kind for item in objects):
            yield f"deploy/k8s/base: no {kind}"
    dev, objects, faults = files_of(DEPLOY / "k8s/overlays/dev")
    yield from faults
    for item, template in pods(objects):
        yield from check_pod(options, item, template)
    for literal in dev["configMapGenerator"][0]["literals"]:
        if literal.split("=")[0] not in settings_default():
            yield f"deploy/k8s/overlays/dev: forged has no setting {literal}"


def kustomize():
    """The command that renders a folder, of kustomize 5 or of a kubectl that has it."""
    for program, build, version in (("kustomize", ["build"], ["version"]), ("kubectl", ["kustomize"], ["version", "--client"])):
        if not shutil.which(program):
            continue
        said = subprocess.run([program, *version], capture_output=True, text=True).stdout
        if re.search(r"v(5|[6-9]|\d\d)\.\d+" if program == "kustomize" else r"Kustomize Version: v(5|[6-9]|\d\d)\.", said):
            return [program, *build]
    raise Skip("neither kustomize 5 nor kubectl 1.27 or newer is on this machine")


def make_secrets(deploy):
    """Twice: the second time must change nothing."""
    secrets, seen = deploy / "k8s/overlays/dev/secrets", []
    for _ in range(2):
        subprocess.run([deploy / "k8s/overlays/dev/make-secrets"], check=True, capture_output=True)
        seen.append({path.name: path.read_bytes() for path in secrets.iterdir()})
        yield from (f"make-secrets: {path.name} may be read by others" for path in secrets.iterdir() if path.stat().st_mode & 0o077)
    if seen[0] != seen[1]:
        yield "make-secrets: made other secrets at its second run"


def rule_rendered(options):
    """What kustomize makes of base and overlay."""
    command = kustomize()
    with tempfile.TemporaryDirectory() as folder:
        deploy = Path(folder) / "deploy"
        shutil.copytree(DEPLOY, deploy, ignore=shutil.ignore_patterns("secrets"))
        yield from make_secrets(deploy)
        for name in ("base", "overlays/dev"):
            done = subprocess.run(command + [str(deploy / "k8s" / name)], capture_output=True, text=True)
            if done.returncode or done.stderr:
                yield f"{name}: {done.stderr.strip()}"
                continue
            objects = [item for item in yaml.safe_load_all(done.stdout) if item]
            yield from (f"{name}: {fault}" for fault in check_objects(options, objects))
            if name != "base":
                yield from (f"{name}: {fault}" for fault in check_secrets(objects))
                yield from (f"{name}: {name_of(item)} is outside its namespace" for item in objects
                            if item["kind"] != "Namespace" and item["metadata"].get("namespace") != "promptforge-dev")
                if "PodDisruptionBudget" in {item["kind"] for item in objects}:
                    yield f"{name}: a budget keeps its only server's node from being drained"


# ---- image and compose ----

def dockerfile():
    """(instruction, text) of each line of the Dockerfile, continued ones joined."""
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / "image/Dockerfile").read_text())
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line and not line.startswith("#")]


def copied():
    """(source, destination) of what the image takes from the repository."""
    for instruction, text in dockerfile():
        if instruction == "COPY" and not text.startswith("--from"):
            *sources, destination = text.split()
            yield from ((source, destination) for source in sources)


def check_context():
    """What is copied exists, and .dockerignore lets it through, and nothing else."""
    lines = [line for line in (SOURCE / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    let_in, wanted = {line[1:] for line in lines if line.startswith("!")}, {source for source, _ in copied()}
    if lines[0] != "*":
        yield ".dockerignore: does not begin by keeping everything out"
    for source in sorted(wanted):
        if not (SOURCE / source).exists():
            yield f"Dockerfile: copies {source}, which is not there"
        if not any(source == path or source.startswith(f"{path}/") for path in let_in):
            yield f".dockerignore: keeps {source} out"
    yield from (f".dockerignore: lets {path} in, which nothing copies" for path in sorted(let_in)
                if not any(source == path or source.startswith(f"{path}/") for source in wanted))


def check_configure(folder):
    """CMake finds all it needs among what is copied."""
    context = folder / "context"
    for source, destination in copied():
        if destination.startswith("/") or source.startswith("deploy"):
            continue
        target = context / destination / (Path(source).name if destination.endswith("/") else "")
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (SOURCE / source).is_dir() else shutil.copy)(SOURCE / source, target)
    done = subprocess.run(["cmake", "--preset", "release", "-DCMAKE_INSTALL_PREFIX=/usr"], cwd=context, capture_output=True, text=True)
    if done.returncode:
        yield f"Dockerfile: cmake fails on what is copied: {done.stderr.strip()}"


def install_as_image(options, folder):
    """Does to a build what the Dockerfile does; the tree that is copied to the image's root."""
    out = folder / "out"
    command = next(text for instruction, text in dockerfile() if instruction == "RUN" and "cmake --install" in text)
    subprocess.run(["cmake", "--install", str(options.build), "--prefix", "/usr"], check=True, capture_output=True, env={**os.environ, "DESTDIR": str(out)})
    remove = re.search(r"rm -rf (/out/.*)", command).group(1)
    subprocess.run(["sh", "-c", f"rm -rf {remove}".replace("/out", str(out))], check=True)
    return out


def owners(libraries):
    """Library path -> Debian package."""
    said = subprocess.run(["dpkg-query", "-S", *{str(Path(path).resolve()) for path in libraries}], capture_output=True, text=True).stdout
    return {path: package.split(":")[0] for package, path in (line.split(": ", 1) for line in said.splitlines())}


def with_dependencies(names):
    """These packages and all they depend on, as this machine has them."""
    found, queue = set(), list(names)
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            said = subprocess.run(["dpkg-query", "-W", "-f=${Depends}, ${Pre-Depends}", name], capture_output=True, text=True).stdout
            queue += re.findall(r"(?:^|, |\| )([a-z0-9][a-z0-9.+-]+)", said)
    return found


def check_libraries(out):
    """The image's packages bring every library, and none for nothing."""
    programs = [path for path in out.rglob("*") if path.is_file() and not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF"]
    own = {path.name for path in out.rglob("*.so*")}
    direct, all_libraries = set(), set()
    for program in programs:
        needed = re.findall(r"NEEDED.*\[(.+)\]", subprocess.run(["readelf", "-d", program], check=True, capture_output=True, text=True).stdout)
        linked = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        paths = {name: path for name, path in re.findall(r"(\S+) => (/\S+)", linked) if name not in own}
        direct |= {paths[name] for name in needed if name in paths}
        all_libraries |= set(paths.values())
        yield from (f"{program.name}: {name} is not found" for name in needed if name not in own and name not in linked)
    base = {"libc6", "libgcc-s1", "libstdc++6"} | {name for name in owners(direct).values() if re.match(r"lib(a|t|l|ub)san\d", name)}
    wanted = set(owners(direct).values()) - base
    listed = set(packages("image"))
    yield from (f"deploy/packages.txt: {name} is missing in group image" for name in sorted(wanted - listed))
    yield from (f"deploy/packages.txt: nothing links to {name} of group image" for name in sorted(listed - wanted - {"openssl"}))
    yield from (f"{path}: package {name} comes with none of group image" for path, name in owners(all_libraries).items()
                if name not in with_dependencies(listed) | base)
    if len(programs) < 3:
        yield f"the image has {len(programs)} programs and libraries only"


def rule_image(options):
    """The Dockerfile copies what is there, builds from it, and installs what the programs link to."""
    yield from check_context()
    with tempfile.TemporaryDirectory() as folder:
        yield from check_configure(Path(folder))
        out = install_as_image(options, Path(folder))
        for path in ("usr/bin/forged", "usr/bin/forgectl", "usr/share/promptforge/migrations"):
            if not (out / path).exists():
                yield f"the image has no /{path}"
        if {path.name for path in (out / "usr").iterdir()} != {"bin", "lib", "share"}:
            yield f"the image has more than bin, lib and share in /usr: {sorted(path.name for path in (out / 'usr').iterdir())}"
        yield from check_libraries(out)
    texts = [text for _, text in dockerfile()]
    if "10001:10001" not in texts or not any(instruction == "HEALTHCHECK" for instruction, _ in dockerfile()):
        yield "Dockerfile: runs as root, or without a health check"


def check_service(options, name, service, compose):
    where = f"service {name}"
    in_image = {destination + Path(source).name if destination.endswith("/") else destination for source, destination in copied()}
    for volume in service.get("volumes", []):
        if volume.split(":")[0] not in compose["volumes"]:
            yield f"{where}: volume {volume} is not declared"
    for other, how in service.get("depends_on", {}).items():
        target = compose["services"].get(other, {})
        healthy = "test" in target.get("healthcheck", {})
        if not target or (how["condition"] == "service_healthy") != healthy or (healthy and "restart" not in target):
            yield f"{where}: cannot wait for {other} to be {how['condition']}"
    for variable, value in service.get("environment", {}).items():
        known = variable in settings_default() or variable in ("FORGE_SERVER", "FORGE_CA", "XDG_CONFIG_HOME", "POSTGRES_PASSWORD_FILE")
        if not known:
            yield f"{where}: nobody reads {variable}"
        if str(value).startswith("/") and not any(value.startswith(volume.split(":")[1]) for volume in service["volumes"]):
            yield f"{where}: {variable}={value} is in no volume"
    program = service.get("entrypoint", ["forged"])[0]
    if program.startswith("/") and program not in in_image:
        yield f"{where}: the image has no {program}"
    if program == "bash":
        script = service["command"][0].replace("$$", "$")
        checked = subprocess.run(["shellcheck", "--shell=bash", "--format=gcc", "-"], input=script, capture_output=True, text=True)
        yield from (f"{where}: {line}" for line in checked.stdout.splitlines())
        yield from (f"{where}: {fault}" for fault in check_script(options, script))
    if service["image"].startswith("promptforge") and name != "prepare":
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"] or service.get("user"):
            yield f"{where}: is not hardened"
    yield from (f"{where}: port {port} is open to other machines" for port in service.get("ports", []) if not port.startswith("127.0.0.1:"))


def rule_compose(options):
    """compose.yaml names services, volumes, files, settings and commands that are there; `docker compose` accepts it where it is installed."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    yield from (f"compose.yaml: no service {name}" for name in ("postgres", "migrate", "forged", "seed") if name not in services)
    for name, service in services.items():
        yield from check_service(options, name, service, compose)
    used = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    yield from (f"compose.yaml: nothing uses volume {name}" for name in set(compose["volumes"]) - used)
    forged = services["forged"]
    if forged["environment"].get("FORGE_MODE") != "development":
        yield "compose.yaml: the sample data needs FORGE_MODE=development"
    drain = seconds(forged["environment"].get("FORGE_DRAIN_TIMEOUT", settings_default()["FORGE_DRAIN_TIMEOUT"]))
    if seconds(forged["stop_grace_period"]) <= drain:
        yield f"compose.yaml: forged is killed while it drains ({drain} s)"
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        done = subprocess.run(["docker", "compose", "-f", DEPLOY / "compose.yaml", "config", "--quiet"], capture_output=True, text=True)
        yield from done.stderr.splitlines() if done.returncode else []


RULES = {name[len("rule_"):]: function for name, function in globals().items() if name.startswith("rule_")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="\n".join(f"{name}: {function.__doc__}" for name, function in RULES.items()))
    parser.add_argument("rule", choices=RULES)
    parser.add_argument("--build", type=Path, default=SOURCE / "build/dev", help="build folder (build/dev)")
    options = parser.parse_args()
    try:
        faults = list(RULES[options.rule](options))
    except Skip as reason:
        print(f"{options.rule}: skipped: {reason}")
        return SKIPPED
    for fault in faults:
        print(fault)
    print(f"{options.rule}: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
