"""The container files name what exists; no engine is needed."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in (ROOT / "docker/Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
COPIED = [source for word, rest in INSTRUCTIONS if word == "COPY" for source in rest.split()[:-1]]


def test_what_is_copied_exists_and_is_let_through() -> None:
    assert all((ROOT / source).exists() for source in COPIED)
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert sorted(COPIED) == sorted(line[1:] for line in lines if line.startswith("!"))


def test_the_package_can_be_built_from_what_is_copied() -> None:
    packages = {name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages | {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} <= set(COPIED)
    pinned = re.search(r"setuptools==(\S+)", " ".join(rest for _, rest in INSTRUCTIONS))
    assert pinned
    (needed,) = map(Requirement, PROJECT["build-system"]["requires"])
    assert needed.specifier.contains(pinned[1])


def test_dependencies_are_installed_before_code_is_copied() -> None:
    steps = [rest for word, rest in INSTRUCTIONS if word in ("COPY", "RUN")]
    copied, installed, *_ = (place for place, step in enumerate(steps) if "constraints.txt" in step)
    assert installed == copied + 1
    assert steps[copied].split() == ["pyproject.toml", "constraints.txt", "./"]


def test_the_container_does_not_run_as_root() -> None:
    assert [rest for word, rest in INSTRUCTIONS if word == "USER"] == ["$USER_ID"]


def test_images_have_a_version() -> None:
    bases = [rest for word, rest in INSTRUCTIONS if word == "FROM"]
    for image in [*bases, *(service["image"] for service in SERVICES.values() if service["image"] != "pcclip")]:
        assert re.search(r":v?\d+\.\d+\.\d+", image)


@pytest.mark.parametrize("name", SERVICES)
def test_service(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        context = ROOT / "docker" / service["build"]["context"]
        assert (context / service["build"]["dockerfile"]).is_file()
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        if source.startswith("."):
            assert source in ("../data", "../runs") or (ROOT / "docker" / source).is_dir()
    for default in re.findall(r"\$\{CONFIG:-(\S+)\}", " ".join(service["command"])):
        assert (ROOT / default).is_file()


def test_all_three_are_there() -> None:
    assert set(SERVICES) == {"trainer", "tensorboard", "vllm"}
    assert SERVICES["trainer"]["image"] == SERVICES["tensorboard"]["image"]
