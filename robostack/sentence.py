"""What to tell a person of an error, in one sentence."""

from __future__ import annotations

from robostack.extras import EXTRAS


def sentence(error: Exception) -> str:
    """Return what `error` says, or "" where a traceback says more: it is a bug."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        extra = next((e for e, names in EXTRAS.items() if package in names), "")
        if extra:
            return (
                f"this needs the package {package!r}, which is not installed: "
                f"pip install 'robostack[{extra}]'"
            )
        return ""
    ours = type(error).__module__.startswith("robostack.")
    return str(error) if ours or isinstance(error, OSError) else ""


def clause(error: Exception) -> str:
    """Return what `error` says, to go on a sentence with."""
    text = str(error)
    return text[:1].lower() + text[1:]
