"""What can go wrong that a user can mend.

Each message is one sentence: what was given, what was expected, what to do. The command line prints it without a
traceback and ends with `exit_code`: 2 where the call itself was wrong (an unknown name, a missing file, a place that is taken,
options that do not go together), 1 where the call was right and the work failed.
"""


class TvmBalancedError(Exception):
    """The root of every error this package raises on purpose; `usage` says if the call was wrong where its kind does not."""

    exit_code = 1

    def __init__(self, *message: object, usage: bool | None = None) -> None:
        super().__init__(*message)
        if usage is not None:
            self.exit_code = 2 if usage else 1


class PatternError(TvmBalancedError, ValueError):
    """A pattern that cannot be read or that no block can keep."""

    exit_code = 2


class WeightError(TvmBalancedError, ValueError):
    """A weight that does not fit its pattern, or holds what no kernel may compute with."""


class ModelError(TvmBalancedError):
    """A model that cannot be loaded, imported, pruned or rewritten."""


class TargetError(TvmBalancedError, ValueError):
    """A target that is unknown, or that the machine at hand cannot serve."""

    exit_code = 2


class InputError(TvmBalancedError, TypeError):
    """An argument with the wrong type, shape, dtype, device, size or name."""

    exit_code = 2


class ToleranceError(TvmBalancedError):
    """A compiled module whose outputs differ from the model's by more than the tolerance."""


class ArtifactError(TvmBalancedError):
    """An artifact that cannot be written, read or trusted."""


class TuningError(TvmBalancedError):
    """A tuning log that cannot be read, written or trusted, or a search that cannot go on."""


class EnvironmentFaultError(TvmBalancedError):
    """An installation that is known not to work."""


class Terminated(SystemExit):
    """The end of this process by a termination signal; what catches SystemExit of a user's code must let it pass."""


def last_line(error: BaseException) -> str:
    """Return what went wrong in one line, the last: TVM's messages have a page of text before it."""
    return _lines(error)[-1]


def first_line(error: BaseException) -> str:
    """Return what went wrong in one line, the first: torch's messages have a page of text after it."""
    return _lines(error)[0]


def _lines(error: BaseException) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
