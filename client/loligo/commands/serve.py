"""`loligo serve`"""

import os
from typing import Any

import click


@click.command("serve")
@click.argument("volume", required=False)
@click.option(
    "--config", "path", metavar="FILE", help="A TOML file with the same keys as these options, which win over it."
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Where clients connect; 0.0.0.0 and [::] are all addresses, IPv6 included.  [default: 127.0.0.1:9440]",
)
@click.option(
    "--metrics", metavar="HOST:PORT", help="Where Prometheus asks; '' for nowhere.  [default: 127.0.0.1:9441]"
)
@click.option("--tls-cert", metavar="FILE", help="This server's certificate (PEM).")
@click.option("--tls-key", metavar="FILE", help="The key of the certificate (PEM).")
@click.option("--tls-ca", metavar="FILE", help="Clients must show a certificate that this authority (PEM) has signed.")
@click.option(
    "--insecure-network",
    is_flag=True,
    default=None,
    help="Listen beyond this machine though clients show no certificates: everybody there may do everything.",
)
@click.option(
    "--session-expiry",
    metavar="SECONDS",
    type=float,
    help="After so long without a word a client is shut out, and what it has open is let go.  [default: 60]",
)
@click.option(
    "--purge-rate",
    metavar="INODES",
    type=float,
    help="Empty the trash of no more than so many inodes a second; 0 for no limit.  [default: 0]",
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.  [default: info]")
def command(path: str | None, **flags: Any) -> None:
    """Serve VOLUME (a name or the URL of its metadata) to many clients.

    Runs in the foreground and logs to the terminal; SIGTERM stops it, and what clients have open stays for the next start.
    It tells systemd when it is ready (Type=notify) and that it lives (WatchdogSec=).

    \b
    Examples:
      loligo serve work
      loligo serve work --listen 0.0.0.0:9440 --tls-cert server.pem --tls-key server.key --tls-ca ca.pem
      loligo serve --config /etc/loligo/serve.toml
    """
    from loligo.logs import log_to_terminal
    from loligo_mds.shell.config import make_config, read_config
    from loligo_runtime import volume as volumes

    config = make_config(read_config(path) if path else {}, flags)
    log_to_terminal(config.log_level)
    volume = volumes.resolve(config.volume)

    # gRPC's newer listener takes every frame through two more threads than the older one: 40 us of processor, 50 to 100 us a
    # round trip, measured with gRPC 1.85. It has to be said before gRPC is imported.
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
    from loligo_mds.shell.server import serve  # slow to import: complain first

    serve(config, volume)
