"""Messages of pydantic in one line."""

from pydantic import ValidationError


def explain(error: ValidationError) -> str:
    """Return the first error of pydantic in one line, with its key."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    return f"{'.'.join(map(str, first['loc']))}: {message}, found {str(first['input'])[:200]!r}"
