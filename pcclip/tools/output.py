"""Check outputs of the tools before any work is done."""

import tempfile
from pathlib import Path

from pcclip.data.picture_files import COPIES, is_own_png

OR_OVERWRITE = " or add --overwrite true"
FOLDER_FILES = (
    "open_clip_config.json",
    "config.json",
    "preprocess.json",
    "results.json",
)  # in folders of models and sweeps


def check_writable(target: str | Path) -> Path:
    """Create the parent folder of `target`, and check that it is writable.

    Raises:
        OSError: It is not. Names `target`.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise OSError(f"{target}: cannot be written ({error.strerror}); choose another place") from error
    return target


def claim(target: str | Path, overwrite: bool, *endings: str) -> Path:
    """Check that an output can be written, before any work is done.

    Args:
        target: A file, or a folder.
        overwrite: Whether to replace existing output. A `.png` that pcclip did not draw and a folder that no tool wrote are
            never replaced.
        endings: For a file: its required suffix, then the endings of further output files, which replace the suffix.
            None for a folder.

    Raises:
        ValueError: The name has another suffix.
        FileExistsError: The output, or one of the further files, exists.
        OSError: As `check_writable`.
    """
    target = check_writable(target)
    if endings and target.suffix.lower() != endings[0]:
        raise ValueError(f"--output {target}: must end in {endings[0]}")
    for path in [target.with_name(target.stem + ending) for ending in endings] or [target]:
        if not path.exists() or (not endings and path.is_dir() and not any(path.iterdir())):
            continue
        replaceable = _is_own_file(path) if endings else _is_own_folder(path)
        if not (overwrite and replaceable):
            raise FileExistsError(f"{path}: exists; choose another --output{OR_OVERWRITE * replaceable}")
    return target


def _is_own_file(path: Path) -> bool:
    return path.is_file() and (path.suffix.lower() != ".png" or is_own_png(str(path)))


def _is_own_folder(path: Path) -> bool:
    if not path.is_dir():
        return False
    flat = not any(file.is_dir() for file in path.iterdir())
    return (path / COPIES).exists() or (flat and any((path / name).exists() for name in FOLDER_FILES))
