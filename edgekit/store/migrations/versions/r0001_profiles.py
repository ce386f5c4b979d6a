"""Schema version 1, as databases were made before there were migrations; in such a one there is nothing left to do."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is absent."""
    op.create_table("profile_store_version", sa.Column("version", sa.Integer, primary_key=True), if_not_exists=True)
    op.create_table(
        "profiles",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("artifact_sha256", sa.String(64), nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("identity", sa.Text),
        sa.Column("stand_in_for", sa.Text),
        sa.Column("runtime", sa.Text, nullable=False),
        sa.Column("agent_version", sa.Text, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("measured_s", sa.Float, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        if_not_exists=True,
    )
    op.create_index("profiles_by_artifact", "profiles", ["artifact_sha256", "measured_s"], if_not_exists=True)
    op.execute("INSERT INTO profile_store_version SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM profile_store_version)")
