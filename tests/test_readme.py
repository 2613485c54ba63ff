"""What README.md and docs/ tell people to type works: targets, files, configurations and snippets.

Blocks fenced as `sh` or `bash` hold commands as they are typed; commands with placeholders are fenced as `text`. Blocks
fenced as `yaml` with a `trainer` are configurations for the `pcclip` command, in a file at the project's root. Blocks
fenced as `python` whose first line is `# runs` are run, those of one document as one program, in an empty folder.
"""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from PIL import Image

from data_prep.chain import parse_steps
from data_prep.cli import main as pcclip_data
from pcclip.cli import TOOLS, main
from pcclip.commands.command import tool_parser
from pcclip.experiments.ablations import read_experiment
from pcclip.training_cli import PairCLI

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACEHOLDER = re.compile(
    r"\.\.\.|<\w|(?<![\w$])(PATH|FOLDER|DIR|FILE|NAME|STEP|MODEL|CHECKPOINT|DATASET|USER|HOST)(?![\w=])"
)
OWN_FOLDERS = ("conf/", "docs/", "docker/", "pcclip/", "data_prep/", "tests/")


@dataclass(frozen=True)
class Block:
    """A fenced block and where it begins."""

    document: Path
    line: int
    language: str
    text: str


def blocks(document: Path) -> Iterator[Block]:
    lines = document.read_text(encoding="utf-8").splitlines()
    fence = ""
    for number, line in enumerate(lines):
        mark = re.match(r"\s*(`{3,}|~{3,})\s*(\w*)", line)
        if not fence and mark:
            fence, language, start = mark[1], mark[2], number + 1
        elif fence and line.strip() == fence:
            yield Block(document, start, language, "\n".join(lines[start:number]) + "\n")
            fence = ""
    assert not fence, f"{document}: the block that begins in line {start} does not end"


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a block, less comments, prompts, redirections and variables set for it."""
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";&|"):
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words.pop(0)
                if words:
                    yield words
                words = []
            else:
                words.append(word)


BLOCKS = [block for document in DOCUMENTS if document.is_file() for block in blocks(document)]
COMMANDS = {
    shlex.join(words): words for block in BLOCKS if block.language in ("sh", "bash") for words in commands(block)
}
CONFIGURATIONS = [block for block in BLOCKS if block.language == "yaml" and re.search("^trainer:", block.text, re.M)]
RUNNING = [
    document
    for document in DOCUMENTS
    if any(b.document == document and b.language == "python" and b.text.startswith("# runs\n") for b in BLOCKS)
]


@pytest.fixture(autouse=True)
def _at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where people type the commands


def parse_pcclip(arguments: list[str]) -> None:
    """Parse a command line of `pcclip` as it would be, and stop before anything is made."""
    if arguments[0] in TOOLS:
        tool_parser(arguments[0]).parse_args(arguments[1:])
        return
    with patch.object(PairCLI, "instantiate_classes"), patch.object(PairCLI, "execute") as run:
        if {"-h", "--help", "--print_config"} & set(arguments):
            with pytest.raises(SystemExit) as ended:
                main(arguments)
            assert ended.value.code == 0
        else:
            main(arguments)
            run.assert_called_once()


def check_make(words: list[str]) -> None:
    rules = re.findall(r"^([\w. /-]+?)\s*:(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {target for rule in rules for target in rule.split() if not target.startswith(".")}
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    for word in words:
        assert "=" in word or word in targets, f"make {word}: the Makefile has {sorted(targets)}"
    if "CONFIG" in variables and "data" in words:
        check_pcclip_data(["all", "--config", variables["CONFIG"], *shlex.split(variables.get("ARGS", ""))])
    elif "CONFIG" in variables:
        parse_pcclip(["fit", "--config", variables["CONFIG"], *shlex.split(variables.get("ARGS", ""))])


def check_pcclip_data(words: list[str]) -> None:
    if "--help" in words or "-h" in words:
        return
    assert parse_steps(words)


def test_there_is_something_to_test() -> None:
    assert "make train" in COMMANDS
    assert "make test" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_understood(command: str) -> None:
    program, *words = COMMANDS[command]
    assert not (found := PLACEHOLDER.search(command)), (
        f"{command}: {found[0]} is a placeholder; fence the block as text"
    )
    for word in words:
        for path in word.split("="):
            assert not path.startswith(OWN_FOLDERS) or (ROOT / path).exists(), f"{command}: {path} does not exist"
    name = Path(program).name
    if name == "make":
        check_make(words)
    elif name == "pcclip":
        parse_pcclip(words)
    elif name == "pcclip-data":
        check_pcclip_data(words)
    elif name.startswith("python") and words[:1] == ["-m"]:
        assert importlib.util.find_spec(words[1]), f"{command}: there is no module {words[1]}"


def test_own_data_commands_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """README's, up to the one that asks a language model, on the folder and table that `conf/data/mine.yaml` names."""
    monkeypatch.chdir(tmp_path)
    Path("conf").symlink_to(ROOT / "conf")
    images = Path("data/mine/images")
    images.mkdir(parents=True)
    for number in range(32):
        Image.new("RGB", (24, 24), (8 * number, 0, 0)).save(images / f"{number}.png")
    rows = "".join(f"{number}.png,a picture of {number} dogs\n" for number in range(32))
    Path("data/mine/captions.csv").write_text("image,caption\n" + rows)
    own = [words for block in BLOCKS if block.document.name == "README.md" for words in commands(block)]
    steps = [words[1:] for words in own if words[0] == "pcclip-data"]
    assert [words[0] for words in steps] == ["captions", "pairs", "describe", "all"]
    for words in steps[:3]:
        assert pcclip_data(words) == 0
    assert "a picture of 3 dogs" in Path("data/mine/prepared/captions.jsonl").read_text()
    assert not Path("data/mine/prepared/differences.jsonl").exists()  # nothing was asked


def test_documented_cells_are_in_their_grid() -> None:
    grids = [words for block in BLOCKS if "--cells" in block.text for words in commands(block) if "--cells" in words]
    for words in grids:
        start = words.index("ablations")
        cells = yaml.safe_load(words[words.index("--cells") + 1])
        assert set(cells) <= set(read_experiment(ROOT / words[start + 1], words[start + 2]).cells)
    assert grids


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=lambda block: f"{block.document.name}:{block.line}")
def test_configuration_is_understood(block: Block) -> None:
    parse_pcclip(["test", "--config", block.text])


@pytest.mark.parametrize("document", RUNNING, ids=lambda document: str(document.relative_to(ROOT)))
def test_snippets_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCKS:
        if block.document == document and block.language == "python" and block.text.startswith("# runs\n"):
            exec(compile(block.text, f"{document.name}:{block.line}", "exec"), names)
