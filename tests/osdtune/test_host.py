"""What a host says, from folders that look like /proc and /sys."""

from pathlib import Path

from loligo_osdtune.shell.host import host_facts


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_a_disk_a_virtual_disk_and_a_loop_device(tmp_path: Path) -> None:
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    write(proc / "sys/vm/swappiness", "60")
    write(sys / "kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    for name, vendor, rotational in (("sda", "ATA", "1"), ("sdb", "QEMU", "1"), ("loop0", "", "1")):
        write(sys / f"block/{name}/queue/rotational", rotational)
        write(sys / f"block/{name}/queue/scheduler", "none [mq-deadline] bfq")
        write(sys / f"block/{name}/device/vendor", vendor)
    host = host_facts(proc, sys)
    assert [(device.device, device.is_virtual, device.is_rotational) for device in host.devices] == [
        ("sda", False, True),
        ("sdb", True, True),
    ]
    assert host.devices[0].scheduler == "mq-deadline"
    assert host.transparent_hugepages == "madvise"
    assert [(option.name, option.value) for option in host.sysctls] == [("vm.swappiness", "60")]
    assert host.governor == ""


def test_this_host() -> None:
    host = host_facts()
    assert host.cpus > 0 and host.memory_bytes > 0 and host.kernel
