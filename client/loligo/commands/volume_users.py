"""`loligo volume users`"""

import os

import click


@click.command("users")
@click.argument("volume")
@click.option("--create", is_flag=True, help="Make them, with the administrator's key.")
@click.option("--daemon", metavar="NAME", help="The daemon's user.  [default: client.loligo-VOLUME-daemon]")
@click.option("--client", metavar="NAME", help="The clients' user.  [default: client.loligo-VOLUME]")
@click.option("--keyrings", metavar="FOLDER", help="Where keyrings go.  [default: the folder of conf=]")
@click.option("--admin-conf", metavar="FILE", help="A ceph.conf that finds client.admin's key.  [default: conf=]")
def command(
    volume: str, create: bool, daemon: str | None, client: str | None, keyrings: str | None, admin_conf: str | None
) -> None:
    """The two Ceph users that VOLUME needs, with the least that each can do with.

    VOLUME is the URL of its data (rados://…, before it is made), or a name or the URL of its metadata. Both users may
    read, write and remove objects in the volume's pool and namespace and nowhere else; the daemon's may also shut
    single clients out of the cluster. Prints the commands that make them, or makes them with --create: their keys are
    written to ceph.NAME.keyring, mode 0600, and shown nowhere. Safe to repeat. Give each machine only its own keyring.

    \b
    Examples:
      loligo volume users 'rados://pool/big?conf=/etc/ceph/ceph.conf'
      loligo volume users 'rados://pool/big?conf=/etc/ceph/ceph.conf' --create
      loligo volume create big --meta file:///srv/big/meta \\
        --data 'rados://pool/big?conf=/etc/ceph/ceph.conf&name=client.loligo-big-daemon'
    """
    from loligo.failures import CommandError
    from loligo_runtime import volume as volumes
    from loligo_runtime.ceph_keys import Administration, finds_keyring
    from loligo_runtime.ceph_users import entities_of, users_of
    from loligo_runtime.object_url import RadosUrl, parse_object_url

    found = None if volume.startswith("rados://") else volumes.resolve(volume)
    data = parse_object_url(found.data_url if found else volume)
    if not isinstance(data, RadosUrl):
        raise CommandError(f"{volume} has its data in a local folder: only data on Ceph needs Ceph users")
    names = entities_of(found.name if found else data.namespace or data.pool)
    users = users_of(data.pool, data.namespace, daemon or names[0], client or names[1])
    folder = keyrings or os.path.dirname(data.conf)
    if not data.namespace:
        click.echo(
            f"loligo: warning: {found.data_url if found else volume} names no namespace. These users can read, change and"
            f" remove everything that is in the default namespace of pool {data.pool!r}, whoever put it there. Give new"
            f" volumes one of their own: rados://{data.pool}/NAMESPACE?…",
            err=True,
        )
    if not create:
        click.echo("umask 077")
        for user in users:
            click.echo(f"# {user.purpose}\n{user.command} -o {os.path.join(folder, user.keyring_name)}")
        return
    if not os.path.isdir(folder):
        raise CommandError(
            f"there is no folder {folder} to put keyrings into: make it, or name another with --keyrings"
        )
    with Administration(admin_conf or data.conf) as administration:
        for user in users:
            path = administration.make(user, folder)
            click.echo(f"{user.entity} ({user.purpose}): its key is in {path}")
            if not finds_keyring(data.conf, user, path):
                click.echo(
                    f"  {data.conf} does not look for it there; add to it: keyring = {folder}/ceph.$name.keyring"
                )
