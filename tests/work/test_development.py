"""What developers do: git, virtual environments, compilers."""

import os
import sys
import textwrap
from pathlib import Path

from loligo_lab.mounts import LabMount
from work.places import EVERYWHERE, WITHOUT_PYFUSE3, run

#: Whatever the user who runs the tests has configured.
_GIT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(*arguments: str | Path, cwd: Path) -> str:
    return run("git", *arguments, cwd=cwd, environment=_GIT)


@EVERYWHERE
def test_git(here: Path, mounted: LabMount) -> None:
    project = here / "project"
    project.mkdir()
    git("init", "-q", "-b", "main", ".", cwd=project)
    for number in range(300):
        path = project / f"folder{number % 10}" / f"file{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"print({number})\n" * (number * 7))
    git("add", ".", cwd=project)
    git("commit", "-q", "-m", "first", cwd=project)
    assert git("status", "--porcelain", cwd=project) == ""
    (project / "folder1" / "file1.py").write_text("changed\n")
    (project / "folder2" / "file2.py").unlink()
    (project / "new").touch()
    told = git("status", "--porcelain", cwd=project).splitlines()
    assert sorted(told) == [" D folder2/file2.py", " M folder1/file1.py", "?? new"]
    git("add", "-A", cwd=project)
    git("commit", "-q", "-m", "second", cwd=project)
    git("checkout", "-q", "-b", "side", "HEAD~1", cwd=project)
    (project / "folder3" / "file3.py").write_text("side\n")
    git("commit", "-q", "-a", "-m", "side", cwd=project)
    git("checkout", "-q", "main", cwd=project)
    git("merge", "-q", "-m", "merged", "side", cwd=project)
    git("gc", "-q", "--prune=now", cwd=project)
    git("fsck", "--strict", cwd=project)
    git("clone", "-q", "--no-local", project, here / "clone", cwd=here)
    assert git("log", "--format=%H", cwd=here / "clone") == git("log", "--format=%H", cwd=project)
    assert run("diff", "-r", "-x", ".git", project, here / "clone", cwd=here) == ""
    assert git("status", "--porcelain", cwd=here / "clone") == ""
    # The next mount shows the same inodes, so git has nothing to look at again.
    before = _index_look(project)
    mounted.unmount()
    mounted.start()
    assert _index_look(project) == before
    assert git("status", "--porcelain", cwd=project) == ""


def _index_look(project: Path) -> list[tuple[int, int, int, int]]:
    """What git compares with its index."""
    return [
        (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        for path in sorted(project.glob("folder*/*"))
        for found in [path.stat()]
    ]


@WITHOUT_PYFUSE3
def test_a_virtual_environment_and_pip(here: Path) -> None:
    venv = here / "venv"
    # Without this run's own environment and paths.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    run(getattr(sys, "_base_executable", sys.executable), "-m", "venv", venv, cwd=here, environment=environment)
    # Pure Python, small, with a command of its own. Needs the package index that pip is configured for.
    run(venv / "bin" / "pip", "install", "--no-cache-dir", "-q", "tabulate", cwd=here, environment=environment)
    table = here / "table"
    table.write_text("name legs\nsquid 10\n")
    told = run(venv / "bin" / "tabulate", "-1", "-f", "github", table, cwd=here, environment=environment)
    assert "| squid  |     10 |" in told
    module = run(venv / "bin" / "python", "-c", "import tabulate; print(tabulate.__file__)", cwd=here)
    assert Path(module.strip()).is_relative_to(venv)
    run(venv / "bin" / "pip", "uninstall", "-q", "-y", "tabulate", cwd=here, environment=environment)
    assert not list(venv.glob("lib/*/site-packages/tabulate*"))


@EVERYWHERE
def test_make_builds_what_has_changed(here: Path) -> None:
    parts = 12
    for number in range(parts):
        include = '#include "part.h"\n' if number % 2 else ""
        (here / f"part{number}.c").write_text(f"{include}int part{number}(void) {{ return {number}; }}\n")
    (here / "part.h").write_text("#define PARTS 12\n")
    declared = "".join(f"int part{number}(void);\n" for number in range(parts))
    total = " + ".join(f"part{number}()" for number in range(parts))
    (here / "main.c").write_text(
        f'#include <stdio.h>\n{declared}int main(void) {{ printf("%d\\n", {total}); return 0; }}\n'
    )
    (here / "Makefile").write_text(
        textwrap.dedent("""\
            objects := $(patsubst %.c,%.o,$(sort $(wildcard *.c)))
            program: libparts.a main.o
            \t$(CC) -o $@ main.o -L. -lparts
            libparts.a: $(filter part%,$(objects))
            \trm -f $@ && ar rcs $@ $^
            %.o: %.c
            \t$(CC) -MMD -c -o $@ $<
            -include $(objects:.o=.d)
        """)
    )
    run("make", "-j2", cwd=here)
    assert run(here / "program", cwd=here) == "66\n"
    assert "up to date" in run("make", cwd=here)
    (here / "part.h").write_text("#define PARTS 13\n")
    built = run("make", cwd=here)
    assert built.count(" -c ") == parts // 2, built
    assert "up to date" in run("make", cwd=here)
    (here / "part0.c").write_text("int part0(void) { return 1000; }\n")
    assert run("make", cwd=here).count(" -c ") == 1
    assert run(here / "program", cwd=here) == "1066\n"
