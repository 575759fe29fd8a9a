"""Where a mount or a server writes what happens: a file that is rotated by size, or the terminal."""

import logging
import logging.handlers
import sys

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_FILE_MAX_BYTES = 1 << 20
_OLD_FILES = 3


def log_to_file(path: str) -> None:
    _use(logging.handlers.RotatingFileHandler(path, maxBytes=_FILE_MAX_BYTES, backupCount=_OLD_FILES, encoding="utf-8"))


def log_to_terminal(level: str = "info") -> None:
    _use(logging.StreamHandler(sys.stderr), level)


def _use(handler: logging.Handler, level: str = "info") -> None:
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
