"""Opens the two halves of a volume, metadata and objects, and sees to it that they belong together."""

import uuid

from loligo_mds.store.shard_store import ShardStore
from loligo_runtime import volume as volumes
from loligo_runtime.object_store import ObjectStore
from loligo_runtime.object_url import open_object_store
from loligo_runtime.volume import Volume, VolumeError


def open_objects(volume: Volume) -> ObjectStore:
    """ObjectStoreError if it cannot be opened, VolumeError if what is there is not this volume's."""
    objects = open_object_store(volume.data_url, create=False)
    try:
        owner = objects.owner()
        if owner != volume.uuid:
            raise VolumeError(
                f"{volume.data_url} holds the data of {f'volume {owner}' if owner else 'no volume'}, not of"
                f" {volume.name} ({volume.uuid}): put back what was there, or the folder that was mounted there"
            )
    except BaseException:
        objects.close()
        raise
    return objects


def open_shard_store(volume: Volume, wait_s: float = 0.0) -> ShardStore:
    """StoreError if it cannot be opened, VolumeError if it is another volume's."""
    store = ShardStore.open(volume.shard_folder, wait_s=wait_s)
    if store.volume_uuid != uuid.UUID(volume.uuid).bytes:
        store.close()
        raise VolumeError(
            f"{volume.shard_folder} belongs to another volume than {volumes.DESCRIPTION} beside it says:"
            " folders were mixed up; put the right ones together"
        )
    return store
