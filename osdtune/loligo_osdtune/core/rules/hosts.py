"""Kernels and disks of the hosts."""

from collections.abc import Callable

from loligo_osdtune.core.facts import Device, Facts, Host
from loligo_osdtune.core.rule import Change, DeviceRule, HostRule, Refusal, Rule, Verdict, number

LARGE_MEMORY = 48 << 30


def _sysctl(name: str, wrong: Callable[[float], bool], proposed: str) -> Callable[[Facts, Host], Verdict]:
    def judge(facts: Facts, host: Host) -> Verdict:
        for option in host.sysctls:
            if option.name == name and wrong(number(option, host.host)):
                return Change(option.value, option.source, proposed)
        return None

    return judge


def _swappiness(facts: Facts, host: Host) -> Verdict:
    return _sysctl("vm.swappiness", lambda value: value > 10, "10")(facts, host) if host.swap_bytes else None


def _min_free(facts: Facts, host: Host) -> Verdict:
    if host.memory_bytes < LARGE_MEMORY:
        return None
    return _sysctl("vm.min_free_kbytes", lambda value: value < 4194303, "4194303")(facts, host)


def _governor(facts: Facts, host: Host) -> Verdict:
    if host.governor in ("", "performance"):
        return None
    return Change(host.governor, "kernel", "performance")


def _hugepages(facts: Facts, host: Host) -> Verdict:
    if host.transparent_hugepages != "always":
        return None
    return Refusal(
        "transparent hugepages are 'always', and may stay: since Octopus Ceph's daemons turn them off for themselves"
    )


def _scheduler(facts: Facts, device: Device) -> Verdict:
    """SATA SSDs have one queue, so the kernel gives them mq-deadline, too; nobody has shown that they want another."""
    is_nvme = device.device.startswith("nvme")
    wanted = "none" if is_nvme else "mq-deadline" if device.is_rotational else device.scheduler
    if device.scheduler in (wanted, ""):
        return None
    if device.is_virtual:
        return Refusal(
            f"its scheduler is {device.scheduler}; it is virtual, and whether '{wanted}' fits depends on what is under it"
        )
    if device.scheduler == "bfq" and not is_nvme:
        return Refusal(
            "its scheduler is bfq, as some operators have it on disks: no comparison with BlueStore was published"
        )
    return Change(device.scheduler, "kernel", wanted)


def _read_ahead(facts: Facts, device: Device) -> Verdict:
    return Refusal(
        f"read_ahead_kb ({device.read_ahead_kib}) has no effect on BlueStore: it reads past the page cache, and turns "
        "read-ahead off where it does not"
    )


def _requests(facts: Facts, device: Device) -> Verdict:
    return Refusal(f"nr_requests ({device.requests}): no trustworthy measurement with Ceph speaks for another value")


HOST_RULES: tuple[Rule, ...] = (
    HostRule(
        rule="aio-max-nr",
        setting="fs.aio-max-nr",
        reads=("fs.aio-max-nr",),
        recommended="1048576",
        reason="each OSD takes thousands of asynchronous requests; one that gets none does not start",
        source="cephadm and ceph-ansible set it",
        weight=40,
        sets=(("fs.aio-max-nr", None),),
        judge=_sysctl("fs.aio-max-nr", lambda value: value < 1048576, "1048576"),
    ),
    HostRule(
        rule="pid-max",
        setting="kernel.pid_max",
        reads=("kernel.pid_max",),
        recommended="4194304",
        reason="hosts with many OSDs run out of thread ids while they recover",
        source="Ceph documentation, hardware recommendations; cephadm sets it",
        weight=30,
        sets=(("kernel.pid_max", None),),
        judge=_sysctl("kernel.pid_max", lambda value: value < 4194303, "4194304"),
    ),
    HostRule(
        rule="zone-reclaim",
        setting="vm.zone_reclaim_mode",
        reads=("vm.zone_reclaim_mode",),
        recommended="0",
        reason="else the kernel throws away cache of one NUMA node while another has free memory",
        source="ceph-ansible sets it",
        weight=30,
        sets=(("vm.zone_reclaim_mode", None),),
        judge=_sysctl("vm.zone_reclaim_mode", lambda value: value != 0, "0"),
    ),
    HostRule(
        rule="swappiness",
        setting="vm.swappiness",
        reads=("vm.swappiness", "swap"),
        recommended="10",
        reason="an OSD whose heap is swapped out answers in seconds (or take swap away altogether)",
        source="ceph-ansible sets it",
        weight=55,
        sets=(("vm.swappiness", None),),
        judge=_swappiness,
    ),
    HostRule(
        rule="min-free",
        setting="vm.min_free_kbytes",
        reads=("vm.min_free_kbytes", "memory"),
        recommended="4194303",
        reason="network buffers cannot wait for memory to be freed (hosts with 48 GiB or more)",
        source="ceph-ansible sets it",
        weight=25,
        risk="low",
        sets=(("vm.min_free_kbytes", None),),
        judge=_min_free,
    ),
    HostRule(
        rule="governor",
        setting="scaling_governor",
        reads=("governor",),
        recommended="performance",
        reason="a single synchronous write leaves the CPU idle in between, and waits for it to speed up each time",
        source="Clyso, 1 TiB/s with Ceph (2024): 10 to 20 % with the tuned profile and without deep C-states",
        weight=40,
        by_hand="firmware and tuned set it together with C-states: choose a profile there, 'tuned-adm profile "
        "latency-performance'",
        judge=_governor,
    ),
    HostRule(
        rule="hugepages",
        setting="transparent_hugepage",
        reads=("hugepages",),
        recommended="any",
        reason="Ceph turns them off for itself",
        source="Ceph's option thp, false by default since Octopus",
        weight=0,
        judge=_hugepages,
    ),
    DeviceRule(
        rule="io-scheduler",
        setting="scheduler",
        reads=("scheduler", "rotational"),
        recommended="mq-deadline for a disk, none for NVMe",
        reason="a disk gains from sorted requests, an NVMe only waits for them to be sorted",
        source="Linux's defaults, block/elevator.c: by number of hardware queues",
        weight=15,
        sets=(("scheduler", None),),
        judge=_scheduler,
    ),
    DeviceRule(
        rule="read-ahead",
        setting="read_ahead_kb",
        reads=("read_ahead_kb",),
        recommended="any",
        reason="it has no effect",
        source="BlueStore, KernelDevice.cc: direct I/O, POSIX_FADV_RANDOM",
        weight=0,
        judge=_read_ahead,
    ),
    DeviceRule(
        rule="nr-requests",
        setting="nr_requests",
        reads=("nr_requests",),
        recommended="any",
        reason="no evidence",
        source="none was found",
        weight=0,
        judge=_requests,
    ),
)
