"""The errors a user may meet; each message says what was found, expected, to do."""

import os


class CommonCanvasError(Exception):
    """Base of every error that this package raises on purpose."""


class ManifestError(CommonCanvasError):
    """A stage's output is missing, incomplete or not what its manifest says."""


class StorageError(CommonCanvasError, OSError):
    """The disk takes no more: it is full, or a folder may not be written to."""


class ParameterError(CommonCanvasError):
    """A parameter is unknown, missing or outside its range."""


class LicenseError(CommonCanvasError):
    """A licence statement cannot be read with certainty."""


class SourceError(CommonCanvasError):
    """A pinned package or weight file is missing or fails its integrity hash."""


class PictureError(CommonCanvasError):
    """A picture cannot be decoded safely."""


class ShapeError(CommonCanvasError):
    """Two arrays that must agree in shape do not."""


class EngineError(CommonCanvasError):
    """Shards or training processes cannot be run as asked for."""


class CheckFailed(CommonCanvasError):
    """At least one of the named checks that close a notebook failed."""


def in_one_line(error: BaseException) -> str:
    """Return what an error says; of the system's own, its file and what to do."""
    if isinstance(error, MemoryError):
        return "there is not enough memory; end other programs, then run it again."
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    file = error.filename or "a file"  # it may be the number of an open one
    return (
        f"{os.fsdecode(file) if isinstance(file, bytes) else file}: {error.strerror}; "
        "see its name, the rights to it and the free space, then run it again."
    )


def brief(error: BaseException, most: int = 160) -> str:
    """Return the start of what another library's error says, as one line."""
    return " ".join(str(error).split())[:most] or type(error).__name__
