import json
from pathlib import Path

from edgekit.passes.table import PASSES
from edgekit.pipeline import keys
from edgekit.pipeline.choose import choose_variants
from edgekit.pipeline.keys import Surroundings, data_files, data_parts, model_key, path_digest, target_facts
from edgekit.schema.load import load_calibration, load_target
from edgekit.schema.passes import PrecisionBudget, QuantizeOptions
from edgekit.schema.prune import PruneOptions
from edgekit.schema.recipe import Checkpoint, Export, ModelSource
from edgekit.schema.tensors import InputSpec
from edgekit.schema.train import TrainOptions

AROUND = Surroundings({}, {}, load_target("jetson").target)


def source(checkpoint: Checkpoint | None = None, **arguments: object) -> ModelSource:
    return ModelSource(
        factory="own_code:network",
        arguments=arguments,
        checkpoint=checkpoint,
        inputs=(InputSpec(name="image", shape=(1, 1, 4, 4)),),
    )


def key(*args: object) -> str:
    return model_key(*args, AROUND).key  # type: ignore[arg-type]


def test_a_checkpoint_counts_by_content_not_by_where_it_lies(workplace):
    (workplace / "a").mkdir()
    (workplace / "w.npz").write_bytes(b"one")
    (workplace / "a" / "v.npz").write_bytes(b"one")
    first = key(source(Checkpoint(path="w.npz")), 0)
    assert key(source(Checkpoint(path="a/v.npz")), 0) == first
    (workplace / "w.npz").write_bytes(b"two")
    assert key(source(Checkpoint(path="w.npz")), 0) != first


def test_an_index_of_weights_counts_by_its_shards(workplace):
    (workplace / "m.json").write_text('{"weight_map": {"a": "m.safetensors"}}')
    absent = key(source(Checkpoint(path="m.json")), 0)
    found = {absent}
    for content in (b"one", b"two"):
        (workplace / "m.safetensors").write_bytes(content)
        found.add(key(source(Checkpoint(path="m.json")), 0))
    assert len(found) == 3


def test_a_file_that_is_the_network_counts_by_content(workplace):
    def found(path):
        return key(ModelSource(pt2=path), 0)

    for name, content in (("a.pt2", b"one"), ("b.pt2", b"one"), ("c.pt2", b"two")):
        (workplace / name).write_bytes(content)
    assert found("a.pt2") == found("b.pt2")
    assert len({found("a.pt2"), found("c.pt2"), found("absent.pt2"), key(ModelSource(onnx="a.pt2"), 0)}) == 4


def test_a_file_that_a_factory_reads_itself_counts_by_content(workplace):
    found = set()
    for content in (b"one", b"two"):
        (workplace / "w.bin").write_bytes(content)
        found.add(key(source(path="w.bin", width=8), 0))
    assert len(found) == 2


def test_seed_and_arguments_and_checkpoint_options_count(workplace):
    (workplace / "w.npz").write_bytes(b"one")
    found = {
        key(source(), 0),
        key(source(), 1),
        key(source(width=8), 0),
        key(source(Checkpoint(path="w.npz")), 0),
        key(source(Checkpoint(path="w.npz", strip_prefix="module.")), 0),
    }
    assert len(found) == 5


def test_factories_of_a_chains_students_count_by_their_source(workplace):
    students = [{"factory": "own_code:network", "arguments": {"width": 2}}]
    inputs = source().inputs
    chained = ModelSource(factory="edgekit.nets.chain:chain", arguments={"students": students}, inputs=inputs)
    before = key(chained, 0)
    assert key(chained, 0) == before
    (workplace / "own_code.py").write_text((workplace / "own_code.py").read_text().replace("padding=1", "padding=2"))
    assert key(chained, 0) != before


def test_files_of_a_data_set_count_by_content(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"1")
    arguments = {"folder": str(tmp_path), "test": "x.npz", "stride": 3}
    before = data_files(arguments)
    assert list(before) == ["test"]
    (tmp_path / "unrelated.npz").write_bytes(b"2")
    assert data_files(arguments) == before
    (tmp_path / "x.npz").write_bytes(b"3")
    assert data_files(arguments) != before


def test_a_file_without_suffix_in_the_working_directory_counts(workplace):
    (workplace / "samples").write_bytes(b"1")
    before = data_files({"path": "samples", "kind": "npz"})
    assert list(before) == ["path"]
    (workplace / "samples").write_bytes(b"2")
    assert data_files({"path": "samples", "kind": "npz"}) != before


def test_a_folder_of_images_in_the_working_directory_counts_by_every_file(workplace):
    (workplace / "photos" / "cat").mkdir(parents=True)
    (workplace / "photos" / "cat" / "1.png").write_bytes(b"1")
    arguments = {"path": "photos", "labels": "folder", "parts": {"train": "cat"}}
    found = [data_files(arguments)]
    assert list(found[0]) == ["path"]
    (workplace / "photos" / "cat" / "2.png").write_bytes(b"1")
    found.append(data_files(arguments))
    (workplace / "photos" / "cat" / "2.png").rename(workplace / "photos" / "2.png")
    found.append(data_files(arguments))
    (workplace / "photos" / "2.png").write_bytes(b"2")
    found.append(data_files(arguments))
    assert len({json.dumps(one) for one in found}) == 4
    (workplace / "photos" / ".thumbnails").mkdir()
    (workplace / "photos" / ".thumbnails" / "1.png").write_bytes(b"3")
    assert data_files(arguments) == found[-1]
    assert data_files({"labels": "", "path": "nothing"}) == {}


def test_how_a_step_is_measured_counts(monkeypatch):
    def made() -> str:
        row = PASSES["train"]
        return keys.pass_key("train", row.options(), 0, "0" * 64, (), AROUND, row.load).key

    before = made()
    monkeypatch.setattr(keys, "_MEASURED_BY", ("edgekit.nets.count",))
    assert made() != before


def test_a_folder_counts_as_a_whole_where_nothing_in_it_is_named(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"1")
    before = data_files({"folder": str(tmp_path)})
    (tmp_path / "y.npz").write_bytes(b"2")
    assert data_files({"folder": str(tmp_path)}) != before


def test_an_absent_file_has_a_digest_of_its_own():
    assert path_digest(Path("nowhere.npz")) == "absent"


def test_a_users_own_loss_counts_by_its_source(workplace):
    def made(name: str, options: TrainOptions | PruneOptions) -> str:
        return keys.pass_key(name, options, 0, "0" * 64, (), AROUND, PASSES[name].load).key

    options = (
        TrainOptions(loss="own_loss:loss"),
        PruneOptions(budget={"macs_ratio": 0.5}, importance="taylor", loss="own_loss:loss"),
    )
    (workplace / "own_loss.py").write_text("def loss(outputs, inputs, labels): return outputs.mean()")
    before = made("train", options[0]), made("prune", options[1])
    (workplace / "own_loss.py").write_text("def loss(outputs, inputs, labels): return outputs.sum()")
    assert made("train", options[0]) != before[0]
    assert made("prune", options[1]) != before[1]


def test_a_users_data_function_counts_by_its_source(workplace):
    first = data_parts("own_code:samples", None)
    assert first["function"] == "own_code:samples"
    assert first["libraries"]["numpy"]  # type: ignore[index]
    assert data_parts("digits", load_calibration("digits"))["files"] == {}


def test_prune_reads_the_channel_multiple_of_the_target_unless_it_has_its_own():
    jetson = load_target("jetson").target
    assert target_facts(PruneOptions(budget={"macs_ratio": 0.5}), jetson) == {"channel_multiple": 16.0}
    assert target_facts(PruneOptions(budget={"macs_ratio": 0.5}, multiple_of=4), jetson) == {}
    assert target_facts(QuantizeOptions(), jetson) == {}


def test_a_pass_that_is_handed_the_lowered_program_depends_on_its_convention():
    jetson, x86 = load_target("jetson").target, load_target("cpu-x86-64").target
    auto = QuantizeOptions(mode="auto")
    assert target_facts(auto, jetson) == {"convention": "tensorrt"}

    def key(options: QuantizeOptions, target, device=None) -> keys.Keyed:
        around = Surroundings({}, {}, target, device)
        return keys.pass_key("quantize", options, 0, "0" * 64, (), around, PASSES["quantize"].load)

    assert key(QuantizeOptions(), jetson).key == key(QuantizeOptions(), x86).key
    assert key(auto, jetson).key != key(auto, x86).key
    assert key(auto, x86).key == key(auto, x86, "bench").key
    lowered = keys.follow_modules(["edgekit.formats.conventions.lowering"]).parts()
    assert key(auto, x86).parts["handed"] == lowered
    assert "handed" not in key(QuantizeOptions(), x86).parts


def test_a_latency_budget_depends_on_the_device_and_on_how_it_is_exported():
    x86 = load_target("cpu-x86-64").target
    budget = QuantizeOptions(budget=PrecisionBudget(latency_ms=1.0))
    facts = target_facts(budget, x86, "bench")
    assert (facts["device"], facts["threads"]) == ("bench", 1)
    assert facts["format"]["runtime"] == "onnxruntime"  # type: ignore[index]
    assert facts != target_facts(budget, x86, "other")
    assert target_facts(QuantizeOptions(budget=PrecisionBudget(size_bytes=9)), x86, "bench") == {}


def test_what_ships_is_no_part_of_an_exports_key():
    (variant, *_) = choose_variants(load_target("jetson").target, Export(), quantised=True)
    made = {keys.export_key(variant, "0" * 64, Export(ship=ship), AROUND).key for ship in ("fastest", "quantised")}
    assert len(made) == 1
    assert keys.export_key(variant, "0" * 64, Export(batch=2), AROUND).key not in made


def test_a_key_holds_what_it_was_made_of():
    one = keys.keyed({"pass": "x", "options": {"a": 1}})
    assert one.parts["options"] == {"a": 1}
    assert one.key != keys.keyed({"pass": "x", "options": {"a": 2}}).key


def test_what_runs_an_artifact_counts_with_its_version():
    import onnxruntime

    target = load_target("jetson").target
    variants = {v.format: v for v in choose_variants(target, Export(), quantised=True)}
    found = keys.artifact_run_key(variants["tensorrt"], "0" * 64, 1, AROUND)
    runtime = found.parts["runtime"]
    assert runtime["name"] == "onnxruntime-unfused"  # type: ignore[index]
    assert runtime["libraries"]["onnxruntime"] == onnxruntime.__version__  # type: ignore[index]
    assert found.key != keys.artifact_run_key(variants["tensorrt"], "0" * 64, 2, AROUND).key
