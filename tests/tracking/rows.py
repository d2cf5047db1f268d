"""Reading an SQLite store without MLflow."""

from __future__ import annotations

import sqlite3


def rows(query: str, database: str = "mlflow.db") -> list[tuple]:
    with sqlite3.connect(database) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found
