"""How the database of profiles came to its present form, one revision a file in versions/, run by alembic.

A revision never imports the tables or records of today, which will be others when it runs. A new one is added to
`REVISIONS`; tests/edgekit/store/test_database.py holds them against `tables.py`.
"""

REVISIONS = ("0001", "0002")  # from the first to the newest
NEWEST = REVISIONS[-1]
REVISION_TABLE = "profile_store_revision"
