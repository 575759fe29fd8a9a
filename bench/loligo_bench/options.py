"""What the benchmarks' command lines share: LABEL=VALUE options and the files of results."""

import argparse
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass


def labelled(parser: argparse.ArgumentParser, option: str, values: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of label and value, in the order given."""
    pairs = []
    for text in values:
        label, _, value = text.partition("=")
        if not label or not value:
            parser.error(f"{option} wants LABEL=VALUE, not {text!r}")
        pairs.append((label, value))
    return pairs


def labelled_directories(parser: argparse.ArgumentParser, option: str, values: Sequence[str]) -> list[tuple[str, str]]:
    pairs = labelled(parser, option, values)
    for label, directory in pairs:
        if not os.path.isdir(directory):
            parser.error(f"{option} {label}={directory}: not a directory")
    return pairs


@dataclass(frozen=True, slots=True)
class Mounts:
    """Where a file system is mounted, and where a second time, if it is."""

    first: str
    second: str | None = None


def labelled_mounts(parser: argparse.ArgumentParser, option: str, values: Sequence[str]) -> list[tuple[str, Mounts]]:
    """Of LABEL=DIR and LABEL=DIR:SECOND, as in PATH."""
    pairs = []
    for label, value in labelled(parser, option, values):
        directories = value.split(":", 1)
        labelled_directories(parser, option, [f"{label}={directory}" for directory in directories])
        pairs.append((label, Mounts(*directories)))
    return pairs


#: What a process does for its file system: CLIENT serves the mount, SECOND the second mount, SERVER is behind both.
CLIENT = "client"
SECOND = "second"
SERVER = "server"
ROLES = (CLIENT, SECOND, SERVER)


def labelled_roles(
    parser: argparse.ArgumentParser, values: Sequence[str], labels: Collection[str]
) -> dict[tuple[str, str], list[int]]:
    """The processes by label and role, of LABEL=PID (a client) and LABEL/ROLE=PID."""
    pids: dict[tuple[str, str], list[int]] = {}
    for name, pid in labelled(parser, "--pid", values):
        label, _, role = name.partition("/")
        if role not in ("", *ROLES):
            parser.error(f"--pid {name}={pid}: roles are {', '.join(ROLES)}")
        for of_label in labelled_pids(parser, [f"{label}={pid}"], labels).values():
            pids.setdefault((label, role or CLIENT), []).extend(of_label)
    return pids


def labelled_pids(
    parser: argparse.ArgumentParser, values: Sequence[str], labels: Collection[str]
) -> dict[str, list[int]]:
    """The processes of each label; a file system may have several."""
    pids: dict[str, list[int]] = {}
    for label, pid in labelled(parser, "--pid", values):
        if label not in labels:
            parser.error(f"--pid {label}={pid}: no directory has this label")
        if not pid.isdigit() or not os.path.isdir(f"/proc/{pid}"):
            parser.error(f"--pid {label}={pid}: there is no such process")
        pids.setdefault(label, []).append(int(pid))
    return pids


def write_text(path: str, content: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)
