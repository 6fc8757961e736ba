"""The errors a user may meet; each message says what was found, expected, to do."""


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
