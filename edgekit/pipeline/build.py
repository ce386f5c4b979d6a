"""`build`: from a request to a bundle. The only place that knows the whole order."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.errors import EdgekitError
from edgekit.pipeline.artifacts import Exported, export_artifact
from edgekit.pipeline.draft import draft_bundle
from edgekit.pipeline.on_device import use_device
from edgekit.pipeline.own_data import remember
from edgekit.pipeline.progress import Reporter, Silent
from edgekit.pipeline.remember import find_regressions, remember_build, remember_profiles
from edgekit.pipeline.request import BuildRequest, find_device, plan_build
from edgekit.pipeline.run import Stage, Workshop, run_steps
from edgekit.release.bundle import check_place, read_manifest, write_bundle
from edgekit.schema.manifest import Manifest, Skipped, StepRow
from edgekit.store.commit import project_commit
from edgekit.store.place import profile_database
from edgekit.store.profiles import ProfileStore
from edgekit.store.steps import StepStore

_log = logging.getLogger(__name__)

EXIT_DONE, EXIT_GATE_FAILED, EXIT_NOT_MEASURED = 0, 3, 4


@dataclass(frozen=True)
class BuildResult:
    """What came of a build.

    Attributes:
        steps: as they were run; those of the manifest lack seconds and `cached` under --no-measure.
        exit_code: 0 done, 3 a gate failed, 4 a device or a required gate was not measured.
    """

    bundle: Path
    manifest: Manifest
    steps: tuple[StepRow, ...]
    exit_code: int


def build(request: BuildRequest, reporter: Reporter | None = None) -> BuildResult:
    """Turn a recipe into a bundle.

    Raises:
        EdgekitError: whatever was wrong with what was asked, or failed on the way. Finished steps stay stored, and the
            same request resumes after them. A device that fails while it measures raises nothing: the bundle says so.
    """
    with ExitStack() as stack:
        log = stack.enter_context(_logging_to_file())
        reporter = _Logged(reporter or Silent())
        home = request.home if request.cache else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = StepStore(home / "steps")
        device = find_device(request.device) if request.device is not None else None
        plan = plan_build(request, store)
        check_place(request.out, plan.name)
        # now, so that a database that cannot be had, or a commit made meanwhile, is no surprise after hours; what was
        # measured is kept under --no-cache too, which is about steps
        history = stack.enter_context(ProfileStore(profile_database(home if device is None else request.home)))
        commit = project_commit(Path())
        for override in plan.overrides:
            reporter.note(f"{override.path} stands in for the shipped file of that name")
        workshop = Workshop(plan, store, reporter, device=device if request.measure else None)
        if plan.calibration is None:
            workshop = _with_own_data(workshop, request)
            plan = workshop.plan
        stages = run_steps(workshop)
        networks = {"last": stages.model[-1], "reference": stages.model[plan.reference]}
        exported, skipped = _export(workshop, networks)
        found = use_device(request, stages, exported, workshop, history)
        found = replace(found, skipped=(*found.skipped, *skipped))
        profiles = remember_profiles(history, plan, exported, found.measured, commit)
        regressions = find_regressions(history, plan, found.measured)
        draft = draft_bundle(
            workshop, stages, found, log, device=device, measuring=request.measure, regressions=regressions
        )
        bundle = write_bundle(request.out, plan.name, draft)
        manifest = read_manifest(bundle)
        remember_build(history, manifest, profiles, commit)
    return BuildResult(bundle, manifest, stages.rows, _exit_code(request, manifest, found.failed))


def _with_own_data(workshop: Workshop, request: BuildRequest) -> Workshop:
    """The workshop with what the user's data function gives now, and the plan that follows from it."""
    name = workshop.plan.recipe.recipe.data
    with workshop.reporter.task(f"reading {name}"):
        data = workshop.load_data(name)
    remember(workshop.store.root.parent, name, data.digest)
    return replace(workshop, plan=plan_build(request, workshop.store), load_data=lambda _: data)


def _export(workshop: Workshop, networks: Mapping[str, Stage]) -> tuple[tuple[Exported, ...], list[Skipped]]:
    """Every variant of the plan; what is only compared with may fail, and leaves a reason."""
    exported, skipped = [], []
    for planned in workshop.plan.artifacts:
        variant = planned.variant
        try:
            exported.append(export_artifact(planned, networks[variant.of], workshop))
        except EdgekitError as err:
            if variant.ships:
                raise
            skipped.append(Skipped(what="comparison of speed", where=variant.title, reason=f"{err.what}; {err.fix}"))
    return tuple(exported), skipped


def _exit_code(request: BuildRequest, manifest: Manifest, failed: bool) -> int:
    if manifest.verdict == "fail":
        return EXIT_GATE_FAILED
    not_judged = manifest.verdict == "incomplete" and request.require_measured
    return EXIT_NOT_MEASURED if failed or not_judged else EXIT_DONE


class _Logged:
    """A reporter whose notes also go to the build's log."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.task = reporter.task

    def note(self, line: str) -> None:
        _log.info("%s", line)
        self._reporter.note(line)


@contextmanager
def _logging_to_file() -> Iterator[Path]:
    """A file that gets what edgekit logs while the `with` lasts."""
    logger = logging.getLogger("edgekit")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "log"
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            yield path
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            handler.close()
