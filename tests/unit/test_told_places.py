"""Where the kernel was told that directories are: `loligo_client.core.told_places`."""

from loligo_client.core.told_places import ToldPlaces
from loligo_wire.ids import ROOT_INO

X, Y, Z, OTHER = 71, 72, 73, 74


def known(limit: int = 100) -> ToldPlaces:
    """`x/z` and `y`."""
    places = ToldPlaces(limit)
    for ino, place in [(X, (ROOT_INO, b"x")), (Y, (ROOT_INO, b"y")), (Z, (X, b"z"))]:
        assert not places.told(ino, place)
    return places


def test_a_directory_has_a_path() -> None:
    places = known()
    assert places.path(Z) == b"/x/z" and places.path(ROOT_INO) == b""
    assert places.path(OTHER) is None
    places.told(OTHER, (99, b"name"))
    assert places.path(OTHER) is None, "what it is in is not known"


def test_who_is_told_another_place_may_have_it_in_the_old_one_until_it_is_seen() -> None:
    places = known()
    assert not places.told(Z, (X, b"z"))
    assert places.told(Z, (Y, b"f")) and places.path(Z) == b"/y/f"
    assert places.told(Z, (Y, b"f")) and places.is_unsure(Z), "to be told once more does not help"
    places.seen(Z)
    assert not places.is_unsure(Z) and not places.told(Z, (Y, b"f"))
    assert places.told(Z, (X, b"z")), "or back"


def test_in_one_place_is_one_directory() -> None:
    places = known()
    assert not places.told(OTHER, (X, b"z"))
    assert places.find(Z) is None and places.path(OTHER) == b"/x/z"
    places.told(OTHER, (Y, b"f"))
    assert places.is_told((Y, b"f")) and not places.is_told((X, b"z"))


def test_what_is_renamed_here_goes_along() -> None:
    places = known()
    assert places.told(Z, (Y, b"f"))
    places.renamed((Y, b"f"), (Y, b"g"), exchange=False)
    assert places.path(Z) == b"/y/g" and not places.is_unsure(Z)
    places.renamed((Y, b"file"), (Y, b"g"), exchange=False)
    assert places.find(Z) is None, "it was replaced"
    places.renamed((ROOT_INO, b"x"), (ROOT_INO, b"y"), exchange=True)
    assert places.path(X) == b"/y" and places.path(Y) == b"/x"
    places.renamed((ROOT_INO, b"x"), (ROOT_INO, b"x"), exchange=False)
    assert places.path(Y) == b"/x"


def test_it_is_forgotten_when_the_kernel_was_told_no_more_often() -> None:
    """It may be told anew before it has said that it has forgotten what it was told before."""
    places = known()
    places.told(Z, (Y, b"f"))
    places.forgotten(Z, 1)
    assert places.find(Z) == (Y, b"f")
    places.forgotten(Z, 1)
    assert places.find(Z) is None and not places.is_unsure(Z) and len(places) == 2
    assert not places.told(Z, (X, b"z"))
    places.forgotten(12345, 1)


def test_those_told_last_are_remembered() -> None:
    places = known(limit=3)
    places.told(X, (ROOT_INO, b"x"))
    places.told(OTHER, (X, b"other"))
    assert places.find(Y) is None and places.path(OTHER) == b"/x/other"


def test_what_others_move_in_turns_is_no_circle() -> None:
    places = known()
    places.told(X, (Z, b"x"))
    assert places.path(Z) is None
