"""Read YAML as pydantic models, and explain pydantic's errors in one line."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pcclip.paths import read_text

M = TypeVar("M", bound=BaseModel)


def read_yaml(model: type[M], file: str | Path, what: str, remedy: str = "check the path") -> M:
    """Read a YAML file. `what` and `remedy` are for the error of `read_text`.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: Not YAML in UTF-8, or a missing, unknown or invalid key.
    """
    try:
        return model.model_validate(yaml.safe_load(read_text(file, what, remedy)))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not valid YAML ({error})") from error
    except ValidationError as error:
        raise ValueError(f"{file}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """Return the first error of pydantic in one line, with its key."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    return f"{'.'.join(map(str, first['loc']))}: {message}, found {str(first['input'])[:200]!r}"
