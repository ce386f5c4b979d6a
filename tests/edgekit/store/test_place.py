from pathlib import Path

from edgekit.store.place import default_home, profile_database


def test_where_things_lie():
    assert default_home({}) == Path(".edgekit")
    assert default_home({"EDGEKIT_HOME": "/x"}) == Path("/x")
    assert profile_database(None, {}) == Path(".edgekit/profiles.sqlite")
    assert profile_database(None, {"EDGEKIT_HOME": "/x"}) == Path("/x/profiles.sqlite")
    assert profile_database(Path("/y"), {"EDGEKIT_HOME": "/x"}) == Path("/y/profiles.sqlite")
    assert profile_database(Path("/y"), {"EDGEKIT_DB": "postgresql:///z"}) == "postgresql:///z"
