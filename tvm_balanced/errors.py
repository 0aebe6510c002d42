"""What can go wrong that a user can mend.

Each message is one sentence: what was given, what was expected, what to do. The command line prints it without a
traceback and ends with `exit_code`: 1 where the work failed, 2 where the call itself was wrong.
"""


class TvmBalancedError(Exception):
    """The root of every error this package raises on purpose."""

    exit_code = 1


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
    """An argument of a compiled module with the wrong shape, dtype, device or name."""


class ToleranceError(TvmBalancedError):
    """A compiled module whose outputs differ from the model's by more than the tolerance."""


class ArtifactError(TvmBalancedError):
    """An artifact that cannot be written, read or trusted."""


class TuningError(TvmBalancedError):
    """A tuning log that cannot be read, written or trusted, or a search that cannot go on."""


class EnvironmentFaultError(TvmBalancedError):
    """An installation that is known not to work."""
