"""`loligo mount`"""

import os

import click


@click.command("mount")
@click.argument("source")
@click.argument("directory")
@click.option("-o", "options", metavar="OPTIONS", multiple=True, help="Mount options, separated by commas.")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to the terminal.")
def command(source: str, directory: str, options: tuple[str, ...], foreground: bool) -> None:
    """Mount the volume SOURCE on DIRECTORY.

    SOURCE is a name or the URL of the volume's metadata; or, through a metadata server ('loligo serve'),
    HOST:PORT[,HOST:PORT ...]/VOLUME[/DIRECTORY], with an IPv6 address in brackets.

    Returns when the mount works. A process in the background serves it and logs to mount.log beside the metadata; with a
    server, to a file named after DIRECTORY in /var/log/loligo, or ~/.local/state/loligo. An ordinary user needs the package
    fuse3.

    \b
    Options:
      ro                     nobody can change anything
      noatime, nodiratime    do not record when something was read (the default is relatime)
      nosuid, nodev, noexec, sync, dirsync      as in mount(8)
      allow_other            others may enter, as permissions say; root's default. For ordinary users
                             /etc/fuse.conf must have user_allow_other
      noallow_other          only who mounts may enter
      transport=native       speak the kernel's protocol directly (default); or transport=pyfuse3: through libfuse
      protocol=7.31          speak no newer protocol than this with the kernel; for finding faults

    \b
    Options of mounts through a metadata server:
      timeout=SECONDS        calls wait so long for a server that is away, then they fail with EIO (60)
      ca=, cert=, key=       files for TLS: who signed the server's certificate; this client's certificate and key
      insecure_network       do without TLS though the server is on another machine
      ceph_conf=, ceph_name= this client's ceph.conf and user, where the volume's URL of its data has others
      data=URL               another URL of the data altogether
      data_cache=SIZE        keep so much of what is read from Ceph on a local disk (1G; at most a quarter of what is free
                             there); 0 turns that off
      data_cache_dir=DIR     where: put it on an SSD (/var/cache/loligo; ~/.cache/loligo for ordinary users)

    \b
    Examples:
      loligo mount work /mnt/work
      loligo mount work /mnt/work -o ro,noatime
      loligo mount file:///srv/work/meta /mnt/work --foreground
      mount -t loligo work /mnt/work                (after 'make install')
      loligo mount mds1:9440,mds2:9440/work/projects /mnt/projects -o ca=/etc/loligo/ca.pem
    """
    from loligo.mounting import mount_volume
    from loligo_client.shell.mount_options import parse_options

    parsed = parse_options(options, allow_other=os.geteuid() == 0)
    mount_volume(source, directory, parsed, foreground=foreground, say=click.echo)
