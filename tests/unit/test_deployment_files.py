"""Dockerfile, docker-compose.yml and .env.example name only settings, commands and files that exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from redis import ConnectionPool
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from pressroom.cli import app
from pressroom.health import Role
from storage.s3 import S3Settings
from workers.settings import Settings
from workers.supervisor import KILL_GRACE_SECONDS

ROOT = Path(__file__).parent.parent.parent
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
WORKERS = sorted(name for name in OURS if SERVICES[name]["command"][0] == "worker")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
ENV_EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
DEPLOY_PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")

CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")

REQUIRED = re.compile(r"\$\{([A-Z_0-9]+):\?[^}]+\}")
"""A variable that compose refuses to start without."""
INTERPOLATED = re.compile(r"(?<!\$)\$\{?([A-Z_0-9]+)")
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|_URL$|requirepass")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of the Dockerfile, continuation lines joined."""

    name: str
    text: str


def instructions() -> list[Instruction]:
    lines = "\n".join(line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", lines)
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def environment_example() -> dict[str, str]:
    lines = [line for line in ENV_EXAMPLE.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def is_known_command(arguments: list[str]) -> bool:
    """Whether the command line parses as far as its help; a wrong command or option does not."""
    return CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0


def test_every_setting_named_exists() -> None:
    named = set(re.findall(r"PRESSROOM_[A-Z0-9_]+", COMPOSE_TEXT + DOCKERFILE + ENV_EXAMPLE + DEPLOY_PAGE))

    assert {"PRESSROOM_DB_URL", "PRESSROOM_REDIS_URL", "PRESSROOM_S3_URL", "PRESSROOM_HOME"} <= named
    unknown = {name for name in named if name.removeprefix("PRESSROOM_").lower() not in Settings.model_fields}
    assert unknown == set()


@pytest.mark.parametrize("service", OURS)
def test_every_command_exists(service: str) -> None:
    assert is_known_command(SERVICES[service]["command"])


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert not is_known_command(["serve"])
    assert not is_known_command(["worker", "--devices", "cpu"])
    assert not is_known_command(["db", "upgrades"])


def test_every_command_of_the_deployment_page_exists() -> None:
    lines = re.findall(r"^docker compose run --rm (?:-\S+ \S+ )*cli (.+)$", DEPLOY_PAGE, re.MULTILINE)

    assert len(lines) >= 3
    for line in lines:
        words = shlex.split(line.replace('"$PWD"', "."), comments=True)
        options = [word for word in words if word.startswith("--")]
        commands = [word for word in words[:2] if re.fullmatch(r"[a-z]+", word)]
        help_text = CliRunner().invoke(app, [*commands, "--help"], terminal_width=200)
        assert help_text.exit_code == 0, line
        assert all(option in help_text.output for option in options), line


def test_pieces_of_the_system_are_all_there() -> None:
    commands = {" ".join(SERVICES[name]["command"][:2]) for name in OURS}

    assert {"db upgrade", "models add", "dispatcher", "beat", "worker --device"} <= commands
    assert {"postgres", "valkey", "s3"} <= SERVICES.keys()


def test_worker_profiles_are_those_of_the_default_settings() -> None:
    for name in OURS:
        command = SERVICES[name]["command"]
        if "--profile" in command:
            assert command[command.index("--profile") + 1] in Settings.model_fields["profiles"].default


@pytest.mark.parametrize("name", SERVICES)
def test_whoever_is_waited_for_can_become_what_is_waited_for(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        waited_for = SERVICES[other]
        assert not waited_for.get("profiles"), f"{other} is not always started"
        if wait["condition"] == "service_healthy":
            assert waited_for["healthcheck"]["test"]
        else:
            assert wait["condition"] == "service_completed_successfully"
            assert waited_for["restart"] == "no"
            assert waited_for["healthcheck"] == {"disable": True}


@pytest.mark.parametrize("name", SERVICES)
def test_what_runs_for_good_is_restarted_and_checked_and_what_ends_is_not(name: str) -> None:
    service = SERVICES[name]
    if service["restart"] == "no":
        assert service["healthcheck"] == {"disable": True}
        return
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    if name in OURS:
        *command, role = check["test"]
        assert command == ["CMD", "python", "-m", "pressroom.health"]
        assert Role(role) in (Role.WORKER, Role.DISPATCHER, Role.BEAT)
        assert SERVICES[name]["command"][0] == role


def test_what_runs_for_good_waits_for_the_schema_and_the_services() -> None:
    for name in OURS:
        waits = {other: wait["condition"] for other, wait in SERVICES[name].get("depends_on", {}).items()}
        if SERVICES[name]["command"][0] in ("worker", "dispatcher", "beat"):
            assert waits["migrate"] == "service_completed_successfully"
            assert waits["valkey"] == waits["s3"] == "service_healthy"
        if SERVICES[name]["command"][0] in ("worker", "beat"):
            assert waits["models"] == "service_completed_successfully"


def test_gpu_worker_reserves_the_devices_and_the_cpu_worker_does_not() -> None:
    devices = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]

    assert [(device["driver"], device["count"]) for device in devices] == [("nvidia", "all")]
    assert set(devices[0]["capabilities"]) == {"gpu", "compute", "utility"}
    assert (SERVICES["worker-gpu"]["profiles"], SERVICES["worker-cpu"]["profiles"]) == (["gpu"], ["cpu"])
    assert "deploy" not in SERVICES["worker-cpu"]


def test_workers_have_time_to_drain() -> None:
    for name in WORKERS:
        grace = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace >= Settings.model_fields["drain_seconds"].default + KILL_GRACE_SECONDS


def test_every_secret_is_required_and_none_has_a_default() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if not SECRET_NAME.search(key) or key.endswith("_FILE"):
                continue
            assert REQUIRED.search(value), f"{name}: {key} is a literal"
            assert not re.search(r"\$\{[A-Z_0-9]+(:?-|\})", value), f"{name}: {key} may be empty"
            userinfo = REQUIRED.sub("", urlsplit(REQUIRED.sub("x", value)).netloc.rpartition("@")[0])
            assert userinfo in ("", "app:x", ":x", "x:x"), f"{name}: {key} holds a literal password"
    secrets = set(REQUIRED.findall(COMPOSE_TEXT))
    example = environment_example()
    assert secrets == {"POSTGRES_PASSWORD", "VALKEY_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"}
    assert secrets >= {secret["environment"] for secret in COMPOSE["secrets"].values()}
    assert all(example[name] == "" for name in secrets)
    assert set(INTERPOLATED.findall(COMPOSE_TEXT)) == example.keys()
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_what_monitors_name_reaches_who_looks_it_up_and_no_repository() -> None:
    read = {name: service["env_file"] for name, service in SERVICES.items() if "env_file" in service}

    assert read.keys() == {"beat", *WORKERS}
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for files in read.values():
        assert [(file["path"] in ignored, file["required"]) for file in files] == [(True, False)]


@pytest.mark.attack("secrets and privileges in the compose file")
@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_stands_in_arguments_or_health_checks(name: str) -> None:
    service = SERVICES[name]
    shown = str(service.get("command")) + str(service.get("healthcheck")) + str(service.get("entrypoint"))
    assert not INTERPOLATED.findall(shown)
    assert not re.search(r"requirepass [^$]|--requirepass| -a |--pass", shown)


@pytest.mark.attack("secrets and privileges in the compose file")
@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert "privileged" not in service
    added = {"s3": ["CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID"]}
    assert service.get("cap_add", []) == added.get(name, [])


def test_secrets_of_files_are_those_of_the_environment() -> None:
    files = COMPOSE["secrets"]
    assert {secret["environment"] for secret in files.values()} == {"POSTGRES_PASSWORD", "VALKEY_PASSWORD"}
    assert SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"
    assert SERVICES["postgres"]["secrets"] == ["postgres_password"]
    assert "$$(cat /run/secrets/valkey_password)" in SERVICES["valkey"]["command"][-1]
    assert SERVICES["valkey"]["secrets"] == ["valkey_password"]


def test_every_image_of_others_is_named_by_version_and_digest() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    base = next(step.text for step in instructions() if step.text.startswith("PYTHON="))
    stages = {step.text.split()[0] for step in instructions() if step.name == "FROM"}

    assert stages == {"python:${PYTHON}"}
    assert not re.search(r"^#\s*syntax\s*=", DOCKERFILE), "the frontend is an image as well"
    for image in [*images, base.replace("PYTHON=", "python:")]:
        assert re.fullmatch(r"[a-z/]+:\d[\w.-]*@sha256:[0-9a-f]{64}", image), f"{image} can be moved"


def test_image_holds_no_secret_and_no_embedded_service() -> None:
    for instruction in instructions():
        if instruction.name in ("ENV", "ARG"):
            names = re.findall(r"([A-Z_0-9]+)=?", instruction.text)
            assert not [name for name in names if SECRET_NAME.search(name)]
    assert "embedded]" not in DOCKERFILE


@pytest.mark.parametrize("service", OURS)
def test_urls_are_ones_that_the_clients_read_and_name_services(service: str) -> None:
    urls = {key: REQUIRED.sub("abc123", value) for key, value in SERVICES[service]["environment"].items()}

    database = make_url(urls["PRESSROOM_DB_URL"])
    postgres = SERVICES["postgres"]["environment"]
    assert (database.host, database.port, database.password) == ("postgres", 5432, "abc123")
    assert (database.username, database.database) == (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"])
    redis = ConnectionPool.from_url(urls["PRESSROOM_REDIS_URL"]).connection_kwargs
    assert (redis["host"], redis["port"], redis["password"]) == ("valkey", 6379, "abc123")
    store = S3Settings.from_url(urls["PRESSROOM_S3_URL"])
    assert (store.endpoint, store.bucket) == ("http://s3:8333", "pressroom")


def test_every_volume_is_declared_and_used() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]

    assert {mount.split(":")[0] for mount in mounts} == COMPOSE["volumes"].keys()
    for name in ("postgres", "valkey", "s3"):
        assert SERVICES[name]["volumes"], f"{name} would lose its data"


def test_models_are_mounted_where_the_image_looks_for_them() -> None:
    home = re.search(r"PRESSROOM_HOME=(\S+)", DOCKERFILE)
    assert home is not None
    folder = str(Settings(home=Path(home[1]), models_dir=None).models_folder)
    for name in ("models", "beat", *WORKERS):
        assert any(mount.split(":")[:2] == ["models", folder] for mount in SERVICES[name]["volumes"])
    assert folder in DOCKERFILE, "the image makes the folder, so that the volume belongs to its user"


def test_no_port_is_published() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == []


def test_dockerfile_builds_in_stages_and_ends_as_a_user_that_is_not_root() -> None:
    steps = instructions()
    last_stage = max(index for index, step in enumerate(steps) if step.name == "FROM")
    final = steps[last_stage:]

    assert sum(step.name == "FROM" for step in steps) == 2
    assert [step.text for step in final if step.name == "USER"] == ["pressroom"]
    assert any(step.name == "RUN" and "useradd --uid 10001" in step.text for step in final)
    assert not [step for step in final if step.name == "RUN" and "pip" in step.text]
    health = next(step.text for step in final if step.name == "HEALTHCHECK")
    assert re.search(r'CMD \["python", "-m", "pressroom\.health", "services"\]$', health)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entry = next(step.text for step in final if step.name == "ENTRYPOINT")
    assert re.fullmatch(r'\["(\w+)"\]', entry)
    assert entry.strip('[]"') in project["scripts"]


def test_every_installation_checks_hashes_but_that_of_the_checkout() -> None:
    commands = [step.text for step in instructions() if step.name == "RUN" and "pip install" in step.text]
    installs = [part for command in commands for part in re.findall(r"pip install[^&;]*", command)]

    assert len(installs) == 4
    assert all("--no-deps" in install for install in installs)
    unchecked = [install for install in installs if "--require-hashes" not in install]
    assert len(unchecked) == 1
    assert "--no-build-isolation ." in unchecked[0]


def test_cpu_build_of_torch_is_the_version_of_the_constraints() -> None:
    text = (ROOT / "torch-cpu.lock").read_text(encoding="utf-8")
    version = re.search(r"^torch==([^\s;]+)", CONSTRAINTS, re.MULTILINE)
    assert version is not None
    assert re.findall(r"^torch==(\S+)\+cpu ", text, re.MULTILINE) == [version[1]]
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", text)) == 2


def test_lock_is_that_of_the_constraints_and_has_a_hash_for_each_file() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", CONSTRAINTS, re.MULTILINE))
    versions = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.findall(r"^(\w[\w.-]*)==([^\s;]+)([^\n]*(?:\n    [^\n]*)*)", text, re.MULTILINE)
    assert {"torch", "celery", "hatchling"} <= {name for name, _, _ in blocks}
    for name, version, rest in blocks:
        assert "--hash=sha256:" in rest
        assert versions.get(name, version) == version


def test_everything_copied_exists_and_reaches_the_builder() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copies = [step.text.split()[:-1] for step in instructions() if step.name == "COPY"]
    sources = {source for copy in copies if not copy[0].startswith("--from") for source in copy}
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]

    assert "*" in ignore
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)
    assert set(build["targets"]["wheel"]["packages"]) <= sources
