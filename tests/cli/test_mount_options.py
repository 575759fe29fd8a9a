import pytest

from loligo_client.shell.mount_options import MountOptions, OptionError, parse_options


def parse(*given: str, sloppy: bool = False) -> MountOptions:
    return parse_options(given, allow_other=False, sloppy=sloppy)


def test_without_options_permissions_are_checked_by_the_kernel() -> None:
    assert parse() == MountOptions(("default_permissions",), "native", None, True)


def test_what_mount_8_keeps_for_itself_means_nothing_here() -> None:
    assert parse("rw,defaults,noauto,user,_netdev,nofail,x-systemd.automount,X-foo=1,comment=a b") == parse()


def test_the_last_of_two_opposites_counts() -> None:
    assert "ro" in parse("rw", "ro").kernel
    assert "ro" not in parse("ro,rw").kernel
    assert "allow_other" not in parse("allow_other,noallow_other").kernel


def test_kernel_flags_are_handed_on() -> None:
    assert set(parse("ro,nosuid,nodev,noexec,sync,dirsync,nodiratime").kernel) == {
        *("default_permissions", "ro", "nosuid", "nodev", "noexec", "sync", "dirsync", "nodiratime")
    }


@pytest.mark.parametrize("option", ["ro", "noatime"])
def test_access_times_rest(option: str) -> None:
    assert not parse(option).update_atime


def test_ours() -> None:
    assert parse("transport=pyfuse3").transport == "pyfuse3"
    assert parse("protocol=7.36").minor_max == 36


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("size=5", "unknown option 'size=5'; known: ro,"),
        ("transport=carrier-pigeon", "there are native and pyfuse3"),
        ("transport", "unknown option 'transport'"),
        ("protocol=8.1", "say 7.31 or newer"),
        ("protocol=7.30", "say 7.31 or newer"),
        ("transport=pyfuse3,protocol=7.31", "needs transport=native"),
        ("remount,ro", "unmount it"),
    ],
)
def test_wrong_options_are_explained(options: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        parse(options)


def test_sloppy_ignores_what_nobody_knows() -> None:
    assert parse("size=5,ro", sloppy=True) == parse("ro")
    with pytest.raises(OptionError):
        parse("transport=carrier-pigeon", sloppy=True)
