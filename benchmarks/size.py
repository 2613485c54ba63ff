"""Size of the code base: `python -m benchmarks.size [REVISION]` counts the files of a git revision (default: HEAD)."""

import ast
import subprocess
import sys
from collections.abc import Callable


def git(*words: str) -> str:
    """Output of a git command."""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Print the counts."""
    revision = sys.argv[1] if len(sys.argv) > 1 else "HEAD"
    files = git("ls-tree", "-r", "--name-only", revision).splitlines()

    def texts(*wanted: str, suffix: str = ".py") -> dict[str, str]:
        chosen = [file for file in files if file.startswith(wanted) and file.endswith(suffix)]
        return {file: git("show", f"{revision}:{file}") for file in chosen}

    def total(found: dict[str, str], count: Callable[[str], int]) -> int:
        return sum(count(text) for text in found.values())

    def lines(text: str) -> int:
        return text.count("\n")

    def statements(text: str) -> int:
        return sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(text)))

    source = texts("pcclip/", "data_prep/")
    print(
        f"pcclip and data_prep: {total(source, statements)} statements, {total(source, lines)} lines, {len(source)} files"
    )
    print(f"tests: {total(texts('tests/'), lines)} lines")
    print(f"conf: {total(texts('conf/', suffix='.yaml'), lines)} lines of YAML")
    for file, text in sorted(source.items()):
        if lines(text) > (300 if file.startswith("pcclip/") else 350):
            print(f"{file}: {lines(text)} lines")
    for word in ("argparse", "sqlite3", "tempfile", "http.client"):
        users = [file for file, text in source.items() if f"import {word}" in text]
        print(f"import {word}: {len(users)} files")


if __name__ == "__main__":
    main()
