import pytest

from loligo_client.shell.mount_options import MountOptions, OptionError, ServerOptions, parse_options


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


def test_those_of_mounts_through_a_server() -> None:
    assert parse("timeout=5").server == ServerOptions(timeout_s=5.0, given=("timeout",))
    given = parse("ca=/ca,cert=/cert,key=/key,insecure_network,ceph_conf=/c,ceph_name=client.x").server
    assert (given.ca, given.cert, given.key, given.insecure_network) == ("/ca", "/cert", "/key", True)
    assert (given.ceph_conf, given.ceph_name) == ("/c", "client.x")
    assert parse("data=rados://p?conf=/c&name=client.a").server.data_url == "rados://p?conf=/c&name=client.a"


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
        ("timeout=-1", "timeout=-1: give seconds"),
        ("timeout=soon", "timeout=soon: give seconds"),
        ("timeout=nan", "give seconds"),
        ("ca=ca.pem", "absolute path"),
        ("ca=", "absolute path"),
        ("ca=/ca,cert=/cert", "cert= and key= belong together"),
        ("cert=/cert,key=/key", "cert= needs ca="),
        ("ceph_name=admin", "client.NAME"),
        ("data=", "data= is empty"),
        ("data=rados://p?conf=/c,ceph_conf=/d", "whole URL"),
    ],
)
def test_wrong_options_are_explained(options: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        parse(options)


def test_sloppy_ignores_what_nobody_knows() -> None:
    assert parse("size=5,ro", sloppy=True) == parse("ro")
    with pytest.raises(OptionError):
        parse("transport=carrier-pigeon", sloppy=True)
