"""What alembic runs for `edgekit.store.database`: the revisions, in the transaction of the connection it is given."""

from alembic import context

from edgekit.store.migrations import REVISION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=REVISION_TABLE)
context.run_migrations()
