"""Every failure a caller can cause, in one tree.

EdgeTseError                 the caller or the world is wrong: one line, exit code 2
├── ArtifactError            an artifact or voice file that cannot be used
│   └── ParityError          an engine differs from the golden integers by more than it states
├── TargetError              a target that does not exist, or that the model does not fit
├── AudioError               audio that cannot be processed as asked
├── DataError                training or evaluation data that cannot be used
├── EngineError              a runtime that is missing or cannot run this model
├── LinkError                bytes stopped flowing to or from a board
└── DeviceError              the board answered, and the answer was an error

Anything else that escapes is a bug of ours and shows a traceback.
"""

__all__ = [
    "ArtifactError",
    "AudioError",
    "DataError",
    "DeviceError",
    "EdgeTseError",
    "EngineError",
    "LinkError",
    "ParityError",
    "TargetError",
]


_LONGEST_LINE = 1000


class EdgeTseError(Exception):
    """The message is one line: what is wrong, the numbers, and what to do."""

    def __str__(self) -> str:
        """The message; a long one, which quotes thousands of characters, is cut to its beginning and end."""
        line = super().__str__()
        half = _LONGEST_LINE // 2
        return line if len(line) <= _LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


class ArtifactError(EdgeTseError):
    """An artifact or voice file is damaged, too new, or made for something else."""


class ParityError(ArtifactError):
    """An engine's integers differ from the golden frames by more than its stated tolerance."""


class TargetError(EdgeTseError):
    """A target is unknown, misdescribed, or too small for the model."""


class AudioError(EdgeTseError):
    """Audio is unreadable, empty, not finite, or of the wrong shape."""


class DataError(EdgeTseError):
    """A corpus, recipe, checkpoint or trial list cannot be used."""


class EngineError(EdgeTseError):
    """A runtime is not installed or refuses the model."""


class LinkError(EdgeTseError):
    """A link to a board is closed, silent or garbled."""


class DeviceError(EdgeTseError):
    """A board reported a failure.

    ``status`` is the code it sent.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
