"""Every error that a user can act on. Each says what failed, where, and what to do next."""


class EdgekitError(Exception):
    """Base of every error that a user can act on.

    Args:
        what: what failed, with the value seen.
        where: recipe key, layer, file or device.
        fix: what to do next.
    """

    def __init__(self, what: str, where: str, fix: str) -> None:
        super().__init__(what, where, fix)  # all three, or the error cannot be unpickled from a worker process
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  fix: {self.fix}"


class SchemaError(EdgekitError):
    """A YAML file or an option says something that its schema does not allow."""


class DataError(EdgekitError):
    """Samples, labels or a checkpoint are absent or not what was declared."""


class ModelError(EdgekitError):
    """A network cannot be built, loaded, traced or edited."""


class ShapeError(ModelError):
    """A tensor does not have the shape that an operation needs."""


class PassError(EdgekitError):
    """A pass refused to do its work, or its own check of the result failed."""


class FormatError(EdgekitError):
    """A network cannot be expressed in a format, or the written artifact failed its check."""


class DeviceError(EdgekitError):
    """A device could not be reached, or the agent on it failed."""


class StoreError(EdgekitError):
    """The cache of steps or the profile database is damaged or cannot be written."""


class BundleError(EdgekitError):
    """A bundle is incomplete, altered, or not a bundle."""


class MissingExtraError(EdgekitError):
    """A library that an optional extra brings is not installed."""
