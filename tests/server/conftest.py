from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loligo_lab.mounts import make_lab_volume
from loligo_lab.raw_client import RawClient
from loligo_lab.serving import LabServer, ending_servers
from loligo_runtime.volume import Volume


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return make_lab_volume(tmp_path)


@pytest.fixture
def make_server(volume: Volume, tmp_path: Path) -> Iterator[Callable[..., LabServer]]:
    """A server with these options, started; stopped at the end of the test, which fails if it did not end well."""
    with ending_servers() as servers:

        def make(*options: str, environment: dict[str, str] | None = None) -> LabServer:
            servers.append(LabServer(volume, tmp_path, options=options, environment=environment))
            servers[-1].start()
            return servers[-1]

        yield make


@pytest.fixture
def server(make_server: Callable[..., LabServer]) -> LabServer:
    return make_server()


@pytest.fixture
def make_client() -> Iterator[Callable[..., RawClient]]:
    """A client of a server, connected unless connect=False; let go at the end of the test."""
    clients: list[RawClient] = []

    def make(server: LabServer, *, connect: bool = True, **more: object) -> RawClient:
        client = RawClient(server.address, **more)  # type: ignore[arg-type]
        clients.append(client)
        return client.connect() if connect else client

    yield make
    for client in clients:
        client.break_off()


@pytest.fixture
def client(server: LabServer, make_client: Callable[..., RawClient]) -> RawClient:
    return make_client(server)
