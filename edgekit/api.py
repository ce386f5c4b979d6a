"""The Python API: what the commands do, as typed functions that print nothing. `edgekit` offers each by name.

Libraries are imported when a function is called: planning imports no torch, comparing no ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.pipeline.request import BuildRequest, plan_build, with_data
from edgekit.store.place import default_home, profile_database

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from edgekit.pipeline.build import BuildResult
    from edgekit.pipeline.in_memory import Quantised
    from edgekit.pipeline.plan import Plan
    from edgekit.pipeline.profile import ProfileReport
    from edgekit.pipeline.progress import Reporter
    from edgekit.release.verify import VerifyReport
    from edgekit.schema.profile import MeasureSettings
    from edgekit.store.compared import Compared


def build(
    recipe: str | Path,
    target: str | Path,
    reporter: Reporter | None = None,
    *,
    device: str | None = None,
    out: str | Path = "dist",
    calib: str | Path | None = None,
    settings: Sequence[str] = (),
    cache: bool = True,
    measure: bool = True,
    require_measured: bool = False,
    allow_override: bool = False,
    device_samples: int | None = None,
    remeasure: bool = False,
    home: str | Path | None = None,
) -> BuildResult:
    """Turn a recipe into a bundle, as `edgekit build` does.

    Args:
        recipe: a name, a file, an .onnx file, or package.module:function that makes a network.
        target: a name, an alias or a file.
        reporter: told what is being done; None: nobody is.
        device: name in devices.yaml; None: nothing is measured.
        out: folder that gets the bundle's folder.
        calib: calibration set of the data, by name or file, in place of the recipe's.
        settings: `key=value`, each laid over the recipe: `["seed=1", "steps.0.train.epochs=5"]`.
        cache: take finished steps from the store, and keep them there.
        measure: False: measure nothing even if a device is named, and leave out of the bundle what differs between two
            builds.
        require_measured: a required gate that was not evaluated gives exit code 4.
        allow_override: let a recipe or a file of yours loosen a shipped gate.
        device_samples: most samples of the test split that a board over a link is sent; None: all of them.
        remeasure: measure even what was measured within the last 24 hours.
        home: folder of the store; None: EDGEKIT_HOME, else `.edgekit`.

    Returns:
        The bundle's folder, its manifest, the steps, and the exit code that the command would end with.

    Raises:
        EdgekitError: what was asked cannot be done, or a step failed. Finished steps stay stored.
    """
    from edgekit.pipeline.build import build as run_build

    request = BuildRequest(
        recipe=recipe,
        target=target,
        device=device,
        out=Path(out),
        settings=with_data(settings, None if calib is None else str(calib)),
        cache=cache,
        measure=measure,
        require_measured=require_measured,
        allow_override=allow_override,
        device_samples=device_samples,
        remeasure=remeasure,
        home=_home(home),
    )
    return run_build(request, reporter)


def plan(
    recipe: str | Path,
    target: str | Path,
    *,
    explain: bool = False,
    device: str | None = None,
    calib: str | Path | None = None,
    settings: Sequence[str] = (),
    allow_override: bool = False,
    home: str | Path | None = None,
) -> Plan:
    """What `build` would do with the same arguments; imports no torch and runs nothing.

    Args:
        explain: say of each step that is not stored why not.

    Raises:
        EdgekitError: what was asked cannot be done.
    """
    from edgekit.store.steps import StepStore

    request = BuildRequest(
        recipe,
        target,
        device,
        settings=with_data(settings, None if calib is None else str(calib)),
        allow_override=allow_override,
        home=_home(home),
    )
    return plan_build(request, StepStore(request.home / "steps"), explain=explain)


def profile(
    path: str | Path,
    device: str | Sequence[str] = "local",
    *,
    runtime: str | None = None,
    threads: int | None = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    settings: MeasureSettings | None = None,
    database: str | Path | None = None,
    told: Callable[[str, Mapping[str, Any]], None] | None = None,
) -> ProfileReport:
    """Measure an .onnx or .tflite file, or every artifact of a bundle, as `edgekit profile` does.

    Args:
        path: a file, or the folder of a bundle.
        device: name in devices.yaml; several are measured at the same time.
        runtime: what executes it; None: what the device's target runs the format with.
        threads: of the runtime; None: as the device's target says.
        batch: of a file that leaves its batch open; None: 1.
        shapes: of inputs whose shapes the file leaves open, by name.
        settings: duration, frame rate, percentile, ...; its own threads and batch do not count.
        database: that gets the profiles; None: EDGEKIT_DB, else `profiles.sqlite` in the store's folder.
        told: gets the title of what is being done and what is known of it; of several devices, only which has ended.

    Returns:
        Profiles with all their samples, and what could not be measured, with the reason.

    Raises:
        EdgekitError: there is nothing there that can be measured.
        DeviceError: no such device, or the one artifact could not be measured.
    """
    from edgekit.pipeline.profile import ProfileRequest, profile_artifacts, profile_on_boards
    from edgekit.schema.profile import MeasureSettings

    devices = [device] if isinstance(device, str) else list(dict.fromkeys(device))
    request = ProfileRequest(
        path=Path(path),
        device=devices[0],
        runtime=runtime,
        threads=threads,
        batch=batch,
        settings=settings or MeasureSettings(),
        shapes=shapes or {},
        database=database,
    )
    tell = told or (lambda title, fields: None)
    if len(devices) == 1:
        return profile_artifacts(request, tell)
    return profile_on_boards(request, devices, lambda name: tell(f"{name} has ended", {}))


def quantize(
    network: nn.Module,
    samples: Tensor | NDArray[Any] | Sequence[Tensor | NDArray[Any]],
    target: str | Path = "cpu-x86-64",
    **options: Any,
) -> Quantised:
    """Quantise a PyTorch network that is in memory; `.export(folder)` of what comes out writes .onnx and .tflite files.

    Norms and parallel branches are merged first. The network itself is left as it is. What trains, judges by labels,
    measures or ships is for recipes: see `build`.

    Args:
        samples: (N, ...) as the network takes them, floats or integer tokens; for several inputs one of these for
            each. Ranges of activations are decided on them: a few hundred of real data.
        target: class of hardware, by name, alias or file: says which formats are written, and how integers are placed.
        options: of the pass, as in a recipe: weights="int4", rounding="gptq", observer="percentile", ...;
            `edgekit passes show quantize` lists them.

    Raises:
        SchemaError: no such target, or an option is unknown or has a wrong value.
        DataError: there are no samples, or not one count for all inputs.
        ModelError: the network does not take the samples, or cannot be traced.
        PassError: an option needs labels, a device or a recipe.
    """
    from edgekit.pipeline.in_memory import quantise_network
    from edgekit.schema.load import load_target

    return quantise_network(network, samples, load_target(target).target, options)


def compare(
    a: str | int | Path, b: str | int | Path, *, across: bool = False, database: str | Path | None = None
) -> Compared:
    """Latency of B against A with a 95 % interval, memory, sizes and metrics, as `edgekit compare` does.

    Args:
        a, b: the folder of a bundle; a profile's number; a content digest, an artifact's sha256 or a commit, six digits
            or more of it; the name of a release. With @DEVICE at its end, only what was measured there.
        across: compare times although device, runtime or settings differ.
        database: with the profiles; None: EDGEKIT_DB, else `profiles.sqlite` in the store's folder.

    Raises:
        DataError: nothing is called so, or the two have nothing in common.
        BundleError: a folder is no bundle, or its profiles were altered.
    """
    from edgekit.store.compared import compare_sides
    from edgekit.store.profiles import ProfileStore
    from edgekit.store.sides import find_side

    with ProfileStore(database or profile_database()) as store:
        return compare_sides(find_side(store, str(a)), find_side(store, str(b)), across=across)


def verify(path: str | Path, *, parity: bool = False) -> VerifyReport:
    """Check every digest of a bundle and that its verdict follows from its gates, as `edgekit verify` does.

    Args:
        parity: also run the bundle's parity samples again, on this machine.

    Returns:
        Every problem that was found; `ok` where there is none.
    """
    from edgekit.pipeline.answers import answer_here
    from edgekit.release.verify import verify_bundle

    return verify_bundle(Path(path), answer_here if parity else None)


def _home(given: str | Path | None) -> Path:
    return default_home() if given is None else Path(given)
