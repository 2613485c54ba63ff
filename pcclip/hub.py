"""Upload folders to the Hugging Face Hub, after a confirmation. The token is that of `hf auth login` or `HF_TOKEN`."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx2
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError

from pcclip import __version__

Kind = Literal["model", "dataset"]


def check_push(repository: str, yes: bool) -> None:
    """Check, before any work is done, that an upload is possible. Nothing is sent.

    Args:
        repository: Name of the repository.
        yes: Whether to upload without a confirmation.

    Raises:
        ValueError: The name is not of the form USER/NAME, nobody can confirm, or there is no token.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise ValueError(f"{repository}: not the name of a repository; write USER/NAME")
    if not (yes or sys.stdin.isatty()):
        raise ValueError(
            f"{repository}: an upload needs a confirmation, but standard input is no terminal; add --yes true"
        )
    if get_token() is None:
        raise ValueError(f"{repository}: there is no token for the upload; run `hf auth login`, or set HF_TOKEN")


def push(folder: Path, repository: str, kind: Kind, *, private: bool, yes: bool, replaces: Sequence[str] = ()) -> None:
    """Upload a folder. Create the repository if it does not exist. Ask first, unless `yes` is set.

    An interrupted upload is continued by the next one.

    Args:
        folder: Folder to upload, with everything below it. Links to files are followed.
        repository: Name of the repository, `USER/NAME`.
        kind: Kind of the repository.
        private: Whether only its owner may read it.
        yes: Whether to upload without a confirmation.
        replaces: Patterns of files in the repository to delete if the folder does not have them.

    Raises:
        ValueError: The repository is public, but `private` was set.
        ConnectionError: The Hub cannot be reached, or refuses.
    """
    api = HfApi(library_name="pcclip", library_version=__version__)
    with _errors(repository):
        public = _is_public(api, repository, kind)
    if private and public:
        raise ValueError(
            f"{repository}: exists and is public; make it private in its settings on the Hub, or choose another name"
        )
    new = "new " if public is None else ""
    reader = "private" if private or public is False else "public"
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    print(f"{api.endpoint}: {new}{reader} {kind} repository {repository}, {len(sizes)} files, {sum(sizes):,} bytes")
    if not (yes or _confirmed()):
        print("not uploaded")
        return
    with _errors(repository):
        if new:
            api.create_repo(repository, repo_type=kind, private=private)
        api.upload_folder(
            repo_id=repository,
            repo_type=kind,
            folder_path=folder,
            delete_patterns=list(replaces),
            commit_message=f"Upload with pcclip {__version__}",
        )
    print(f"uploaded to {api.endpoint}/{'datasets/' if kind == 'dataset' else ''}{repository}")


def _is_public(api: HfApi, repository: str, kind: Kind) -> bool | None:
    """Return whether a repository is public, None if it does not exist."""
    try:
        return not api.repo_info(repository, repo_type=kind).private
    except RepositoryNotFoundError:
        return None


def _confirmed() -> bool:
    print("Upload? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def _errors(repository: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:  # all that huggingface_hub raises
        cause = f": {error.__cause__}" if isinstance(error, RuntimeError) and error.__cause__ else ""
        raise ConnectionError(
            f"{repository}: the Hub cannot be used ({error or type(error).__name__}{cause}); check the name, your token "
            "and the network, then run the command again"
        ) from error
