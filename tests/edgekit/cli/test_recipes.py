import pytest


@pytest.fixture(autouse=True)
def _no_data(monkeypatch):
    monkeypatch.delenv("EDGEKIT_DATA", raising=False)


def test_recipes_are_listed_without_their_data(edgekit, edgekit_json):
    result = edgekit("recipes", "list")
    assert result.exit_code == 0
    (row,) = (line for line in result.stdout.splitlines() if line.split()[:1] == ["resnet20-cifar10"])
    assert row.split()[1:4] == ["cifar10", "quantize", "EDGEKIT_DATA"]
    code, document = edgekit_json("recipes", "list")
    assert (code, document["refused"]) == (0, [])
    found = {row["name"]: row for row in document["recipes"]}
    assert found["quickstart"]["steps"] == ["train", "prune", "distill", "reparam", "quantize"]
    assert found["quickstart"]["wants"] == []


def test_a_recipe_is_shown_as_it_is_written_and_extended_by_its_name(edgekit, edgekit_json):
    result = edgekit("recipes", "show", "resnet20-cifar10-pruned")
    assert result.exit_code == 0
    assert "\nextends: resnet20-cifar10\n" in result.stdout
    assert "  - prune: {budget: {macs_ratio: 0.5}}" in result.stdout
    code, document = edgekit_json("recipes", "show", "resnet20-cifar10-pruned")
    assert code == 0
    assert document["recipe"]["model"]["factory"].startswith("edgekit.nets.")  # of the recipe that it extends
    assert document["text"].startswith("extends: ")


def test_an_unknown_recipe_names_the_nearest(edgekit_json):
    code, document = edgekit_json("recipes", "show", "quikstart")
    assert code == 1
    assert "did you mean 'quickstart'?" in document["error"]["fix"]


def test_one_that_cannot_be_read_is_told(edgekit, tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "broken.yaml").write_text("name: 5\n")
    result = edgekit("recipes", "list")
    assert result.exit_code == 0
    assert "broken cannot be used" in result.stderr
