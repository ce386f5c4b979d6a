"""The tables of the database of profiles, as the newest revision in migrations/ leaves them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
)

TABLES = MetaData()

# One row a profile: everything that a list, a filter or a bound asks for.
PROFILES = Table(
    "profiles",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("artifact", Text, nullable=False),
    Column("artifact_sha256", String(64), nullable=False),
    Column("precision", Text),
    Column("ships", Boolean),
    Column("recipe", Text),
    Column("target", Text),
    Column("build", String(64)),
    Column("git_commit", Text),
    Column("device", Text, nullable=False),
    Column("identity", Text),
    Column("stand_in", Boolean, nullable=False),
    Column("stand_in_for", Text),
    Column("runtime", Text, nullable=False),
    Column("runtime_version", Text, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("mean_ms", Float, nullable=False),
    Column("p50_ms", Float, nullable=False),
    Column("p50_low_ms", Float, nullable=False),
    Column("p50_high_ms", Float, nullable=False),
    Column("p90_ms", Float, nullable=False),
    Column("p99_ms", Float),
    Column("valid", Boolean, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("peak_rss_bytes", BigInteger),
    Column("energy_mj", Float),
    Column("measured_at", Text, nullable=False),
    Column("measured_s", Float, nullable=False),
    Index("profiles_by_artifact", "artifact_sha256", "measured_s"),
    Index("profiles_by_time", "measured_s", "id"),
    Index("profiles_by_device", "device", "measured_s"),
    Index("profiles_by_build", "build", "measured_s"),
    Index("profiles_by_recipe", "recipe", "target", "device", "runtime", "measured_s"),
)

# What is read only when one profile is asked for: the record without its samples, and the samples.
DOCUMENTS = Table(
    "profile_documents",
    TABLES,
    Column("profile_id", Integer, ForeignKey("profiles.id", ondelete="CASCADE"), primary_key=True),
    Column("document", Text, nullable=False),
    Column("samples", LargeBinary, nullable=False),
)

BUILDS = Table(
    "builds",
    TABLES,
    Column("digest", String(64), primary_key=True),
    Column("recipe", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("git_commit", Text),
    Column("verdict", Text, nullable=False),
    Column("made_s", Float, nullable=False),
    Column("artifacts", Text, nullable=False),
    Index("builds_by_recipe", "recipe", "target", "made_s"),
)

RELEASES = Table(
    "releases",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("build", String(64), ForeignKey("builds.digest"), nullable=False),
    Column("marked_s", Float, nullable=False),
    UniqueConstraint("recipe", "target", "name", name="releases_by_name"),
)

# An edgekit from before the migrations reads this table alone, and must see a number that it does not know.
VERSIONS = Table("profile_store_version", TABLES, Column("version", Integer, primary_key=True))


def has_prefix(column: Column[str], prefix: str) -> ColumnElement[bool]:
    """Whether a hexadecimal digest begins with `prefix`: a range, as an index serves it and LIKE on SQLite does not."""
    return and_(column >= prefix.lower(), column < prefix.lower() + "g")
