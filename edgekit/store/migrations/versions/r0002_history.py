"""Columns that a history is read from, samples as compact bytes beside them, builds, releases."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from edgekit.store.samples import pack_samples  # its bytes say themselves how they are to be read

revision = "0002"
down_revision = "0001"

_REQUIRED: tuple[tuple[str, Any], ...] = (
    ("artifact", sa.Text()),
    ("stand_in", sa.Boolean()),
    ("runtime_version", sa.Text()),
    ("threads", sa.Integer()),
    ("batch", sa.Integer()),
    ("samples", sa.Integer()),
    ("mean_ms", sa.Float()),
    ("p50_ms", sa.Float()),
    ("p50_low_ms", sa.Float()),
    ("p50_high_ms", sa.Float()),
    ("p90_ms", sa.Float()),
    ("valid", sa.Boolean()),
    ("measured_at", sa.Text()),
)
_OPTIONAL: tuple[tuple[str, Any], ...] = (
    ("precision", sa.Text()),
    ("ships", sa.Boolean()),
    ("recipe", sa.Text()),
    ("target", sa.Text()),
    ("build", sa.String(64)),
    ("git_commit", sa.Text()),
    ("p99_ms", sa.Float()),
    ("peak_rss_bytes", sa.BigInteger()),
    ("energy_mj", sa.Float()),
)


def upgrade() -> None:
    """Add the columns, fill them from the documents, then forbid them to be empty."""
    for name, kind in (*_REQUIRED, *_OPTIONAL):
        op.add_column("profiles", sa.Column(name, kind))
    op.create_table(
        "profile_documents",
        sa.Column("profile_id", sa.Integer, sa.ForeignKey("profiles.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("samples", sa.LargeBinary, nullable=False),
    )
    _move_documents()
    with op.batch_alter_table("profiles") as batch:
        for name, kind in _REQUIRED:
            batch.alter_column(name, existing_type=kind, nullable=False)
        batch.drop_column("document")
    op.create_index("profiles_by_time", "profiles", ["measured_s", "id"])
    op.create_index("profiles_by_device", "profiles", ["device", "measured_s"])
    op.create_index("profiles_by_build", "profiles", ["build", "measured_s"])
    op.create_index("profiles_by_recipe", "profiles", ["recipe", "target", "device", "runtime", "measured_s"])
    _create_builds()
    op.execute("UPDATE profile_store_version SET version = 2")


def _create_builds() -> None:
    op.create_table(
        "builds",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("recipe", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("git_commit", sa.Text),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("made_s", sa.Float, nullable=False),
        sa.Column("artifacts", sa.Text, nullable=False),
    )
    op.create_index("builds_by_recipe", "builds", ["recipe", "target", "made_s"])
    op.create_table(
        "releases",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("recipe", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("build", sa.String(64), sa.ForeignKey("builds.digest"), nullable=False),
        sa.Column("marked_s", sa.Float, nullable=False),
        sa.UniqueConstraint("recipe", "target", "name", name="releases_by_name"),
    )


def _move_documents() -> None:
    names = [name for name, _ in (*_REQUIRED, *_OPTIONAL)]
    profiles = sa.table("profiles", sa.column("id"), sa.column("document"), *map(sa.column, names))
    documents = sa.table("profile_documents", *map(sa.column, ("profile_id", "document", "samples")))
    connection = op.get_bind()
    # one at a time: a database may be larger than the memory
    for key in connection.execute(sa.select(profiles.c.id)).scalars().all():
        text = connection.execute(sa.select(profiles.c.document).where(profiles.c.id == key)).scalar_one()
        document = json.loads(text)
        samples = pack_samples(document.pop("samples_ms"))
        connection.execute(sa.update(profiles).where(profiles.c.id == key).values(_columns(document)))
        row = {"profile_id": key, "document": json.dumps(document), "samples": samples}
        connection.execute(sa.insert(documents), row)


def _columns(document: dict[str, Any]) -> dict[str, Any]:
    summary, settings = document["summary"], document["settings"]
    names = ("mean_ms", "p50_ms", "p50_low_ms", "p50_high_ms", "p90_ms", "p99_ms")
    same = ("artifact", "stand_in", "runtime_version", "valid", "measured_at", "peak_rss_bytes")
    return {
        **{name: summary[name] for name in names},
        **{name: document[name] for name in same},
        "samples": summary["n"],
        "threads": settings["threads"],
        "batch": settings["batch"],
    }
