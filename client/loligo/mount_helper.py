"""`mount.loligo`: what mount(8) calls for `mount -t loligo SOURCE DIR` and for lines of /etc/fstab.

    mount.loligo SOURCE DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]

-s ignores unknown options, -f only checks, -v tells; -n (no mtab), -N and -t are accepted and mean nothing here.
Exit codes are those of mount(8): 0 done, 1 called wrongly, 32 the mount failed.
"""

import getopt
import os
import sys

from loligo.failures import explain

_WRONG_CALL = 1
_MOUNT_FAILED = 32
_USAGE = "usage: mount.loligo SOURCE DIR [-sfnv] [-o OPTIONS]; see 'loligo mount --help'"


def main() -> None:
    sys.exit(_main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    try:
        # Options come after the two names, or before them.
        given, names = getopt.gnu_getopt(arguments, "sfnvwro:N:t:")
    except getopt.GetoptError as error:
        print(f"mount.loligo: {error}; {_USAGE}", file=sys.stderr)
        return _WRONG_CALL
    if len(names) != 2:
        print(f"mount.loligo: {_USAGE}", file=sys.stderr)
        return _WRONG_CALL
    flags = {flag for flag, _ in given}
    options = [value for flag, value in given if flag == "-o"]
    if "-r" in flags:
        options.append("ro")
    try:
        _mount(names[0], names[1], options, sloppy="-s" in flags, fake="-f" in flags, verbose="-v" in flags)
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        print(f"mount.loligo: {text}", file=sys.stderr)
        return _MOUNT_FAILED
    return 0


def _mount(source: str, directory: str, options: list[str], *, sloppy: bool, fake: bool, verbose: bool) -> None:
    from loligo.mounting import check_directory, mount_volume, resolve
    from loligo_client.shell.mount_options import parse_options

    parsed = parse_options(options, allow_other=os.geteuid() == 0, sloppy=sloppy)
    if fake:
        resolve(source, parsed)
        check_directory(os.path.abspath(directory))
        return

    def say(text: str) -> None:
        if verbose:
            print(text)

    mount_volume(source, directory, parsed, foreground=False, say=say)
