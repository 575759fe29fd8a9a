"""What the kernel of this host says about itself and its disks: /proc, /sys and psutil."""

import platform
from pathlib import Path

import psutil

from loligo_osdtune.core.facts import Device, Host, Option
from loligo_osdtune.core.rules import SYSCTLS

_GOVERNOR = "devices/system/cpu/cpu0/cpufreq/scaling_governor"
_HUGEPAGES = "kernel/mm/transparent_hugepage/enabled"
_NOT_DISKS = ("loop", "ram", "zram", "sr", "fd")
#: Drivers, and the vendors that hypervisors give to the SCSI disks which they make.
_VIRTUAL = ("virtio", "xen", "VMware", "QEMU", "Msft", "Google", "VBOX", "vmware")


def host_facts(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Host:
    return Host(
        host=platform.node(),
        kernel=platform.release(),
        cpus=psutil.cpu_count() or 0,
        memory_bytes=psutil.virtual_memory().total,
        swap_bytes=psutil.swap_memory().total,
        governor=_read(sys / _GOVERNOR),
        transparent_hugepages=chosen(_read(sys / _HUGEPAGES)),
        sysctls=tuple(
            Option(name, " ".join(value.split()), "kernel")
            for name in SYSCTLS
            if (value := _read(proc / "sys" / name.replace(".", "/")))
        ),
        devices=tuple(_device(path) for path in sorted((sys / "block").iterdir()) if _is_disk(path.name)),
    )


def _is_disk(name: str) -> bool:
    return not name.startswith(_NOT_DISKS)


def _device(path: Path) -> Device:
    queue = path / "queue"
    maker = f"{_read(path / 'device/vendor')} {path.resolve()}"
    return Device(
        device=path.name,
        is_rotational=_read(queue / "rotational") == "1",
        is_virtual=any(word in maker for word in _VIRTUAL),
        model=_read(path / "device/model"),
        scheduler=chosen(_read(queue / "scheduler")),
        read_ahead_kib=int(_read(queue / "read_ahead_kb") or 0),
        requests=int(_read(queue / "nr_requests") or 0),
        write_cache=_read(queue / "write_cache"),
    )


def chosen(text: str) -> str:
    """Of "none [mq-deadline] bfq" that in brackets."""
    return text.split("[", 1)[1].split("]", 1)[0] if "[" in text else text


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # this kernel or this device has none
        return ""
