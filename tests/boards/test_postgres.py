"""The PostgreSQL that tests get: a real server, an empty database for each test."""

import pytest

sqlalchemy = pytest.importorskip("sqlalchemy")


def _tables(url: str) -> list[str]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    return list(sqlalchemy.inspect(engine).get_table_names())


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_gets_an_empty_database_of_a_real_server(postgres_url: str, number: int) -> None:
    assert _tables(postgres_url) == []
    engine = sqlalchemy.create_engine(postgres_url)  # its pool keeps a connection, which must not keep the database
    with engine.begin() as connection:
        assert "PostgreSQL" in connection.execute(sqlalchemy.text("select version()")).scalar_one()
        connection.execute(sqlalchemy.text(f"create table seen_by_{number} (x jsonb)"))
    assert _tables(postgres_url) == [f"seen_by_{number}"]
    engine.dispose()
