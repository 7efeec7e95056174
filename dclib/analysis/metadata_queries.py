"""What clusters are about, by SQL over an imported table: for more photographs than fit in memory.

The answers are those of :mod:`dclib.analysis.metadata`, which is the reference. In memory are the clusters and one
number for each photograph; the rest is DuckDB's, which keeps to its limit and goes on in files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score

from dclib.analysis.metadata import CELL_DEGREES, PERMUTATIONS, Agreement, Dominated
from dclib.data.images import ImageSet, NumberedIds
from dclib.data.metadata_table import connect
from dclib.data.yfcc_metadata import DIGITS

EXACT_STEPS = 10**8  # of the sum behind the adjustment for chance, about three seconds; beyond, it is estimated

# one row per photograph that has the field, with its image's row and cluster
VALUES = {
    "hashtag": """
        WITH uses AS (SELECT row, cluster, unnest(hashtags) AS tag FROM photos),
        ranked AS (SELECT tag, row_number() OVER (ORDER BY count(*) DESC, tag) AS rank FROM uses GROUP BY tag)
        SELECT row, any_value(cluster) AS cluster, min(rank) AS value FROM uses JOIN ranked USING (tag) GROUP BY row""",
    "device": "SELECT row, cluster, capture_device AS value FROM photos WHERE capture_device <> ''",
    "gps": f"""
        SELECT row, cluster, format('GPS ({{}}, {{}})', floor(latitude / {CELL_DEGREES})::INT * {int(CELL_DEGREES)},
        floor(longitude / {CELL_DEGREES})::INT * {int(CELL_DEGREES)}) AS value
        FROM photos WHERE latitude IS NOT NULL AND longitude IS NOT NULL""",
    "user": "SELECT row, cluster, user_id AS value FROM photos",
}
# of hashtags every one of a photograph is shown, not only the commonest
SHOWN = {**VALUES, "hashtag": "SELECT row, cluster, unnest(hashtags) AS value FROM photos"}

SCORES = """
    WITH cells AS MATERIALIZED (SELECT cluster, label, count(*) AS n FROM dealt GROUP BY ALL),
    by_cluster AS MATERIALIZED (SELECT cluster, sum(n)::DOUBLE AS n, max(n) AS most FROM cells GROUP BY cluster),
    by_label AS MATERIALIZED (SELECT label, sum(n)::DOUBLE AS n FROM cells GROUP BY label)
    SELECT
        (SELECT sum(c.n / $total * ln(c.n * $total / (a.n * b.n)))
         FROM cells c JOIN by_cluster a USING (cluster) JOIN by_label b USING (label)),
        (SELECT -sum(n / $total * ln(n / $total)) FROM by_cluster),
        (SELECT -sum(n / $total * ln(n / $total)) FROM by_label),
        (SELECT sum(most) / $total FROM by_cluster)"""

DOMINATED = """
    WITH tallies AS (SELECT cluster, value, count(*) AS n FROM ({shown}) GROUP BY ALL),
    best AS (SELECT * FROM tallies QUALIFY row_number() OVER (PARTITION BY cluster ORDER BY n DESC, value) = 1),
    sizes AS (SELECT cluster, count(*) AS size FROM images GROUP BY cluster HAVING size >= $smallest)
    SELECT cluster, value, size, n / size AS share FROM best JOIN sizes USING (cluster)
    QUALIFY row_number() OVER (PARTITION BY value ORDER BY share DESC, cluster) = 1
    ORDER BY share DESC, cluster LIMIT $count"""


class TablePhotos:
    """The photographs of clustered images, joined to their metadata where it lies; see :func:`table_photos`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def __len__(self) -> int:
        ((n,),) = self.connection.execute("SELECT count(*) FROM matched").fetchall()
        return int(n)

    def agreement(self, field: str, seed: int) -> Agreement | None:
        """As :func:`dclib.analysis.metadata.agreement`, to rounding; None where there are not two values.

        Where the sum behind the adjusted mutual information would take too long, chance is what the permutations
        give instead of its expectation.
        """
        mine, theirs = self._labels(field)
        if len(theirs) == 0 or theirs.min() == theirs.max():
            return None
        rng = np.random.default_rng(seed)
        mi, h_mine, h_theirs, purity = self._scores(mine, theirs)
        dealt = np.array([self._scores(mine, rng.permutation(theirs)) for _ in range(PERMUTATIONS)])
        h = (h_mine + h_theirs) / 2
        chance_mi, _, _, chance_purity = dealt.mean(axis=0).tolist()
        smaller = min(len(np.unique(mine)), int(theirs.max()) + 1)
        exact = smaller * len(mine) <= EXACT_STEPS
        ami = float(adjusted_mutual_info_score(theirs, mine)) if exact else (mi - chance_mi) / (h - chance_mi)
        return Agreement(len(mine), mi / h, ami, purity, chance_mi / h, chance_purity)

    def dominated(self, field: str, *, smallest: int, count: int) -> list[Dominated]:
        """As :func:`dclib.analysis.metadata.dominated_clusters`."""
        query = DOMINATED.format(shown=SHOWN[field])
        rows = self.connection.execute(query, {"smallest": smallest, "count": count}).fetchall()
        return [Dominated(*row) for row in rows]

    def nicknames(self, rows: Sequence[int]) -> list[str]:
        """Who took the images of some rows; empty where that is not known."""
        query = "SELECT row, user_nickname FROM photos WHERE row IN (SELECT unnest($rows))"
        names = dict(self.connection.execute(query, {"rows": list(rows)}).fetchall())
        return [names.get(row, "") for row in rows]

    def _labels(self, field: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Cluster and number of the value of each photograph that has the field, (n,) each, in order of the images."""
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE valued AS {VALUES[field]}")
        query = """
            SELECT cluster::INTEGER AS cluster, code::INTEGER AS code FROM valued JOIN
            (SELECT value, row_number() OVER () - 1 AS code FROM (SELECT DISTINCT value FROM valued)) USING (value)
            ORDER BY row"""
        found = self.connection.execute(query).fetchnumpy()
        return np.asarray(found["cluster"]), np.asarray(found["code"])

    def _scores(self, mine: NDArray[np.int32], labels: NDArray[np.int32]) -> tuple[float, float, float, float]:
        """Mutual information of two labellings, their entropies (nats), and purity."""
        self.connection.register("dealt", {"cluster": mine, "label": labels})
        (row,) = self.connection.execute(SCORES, {"total": float(len(mine))}).fetchall()
        mi, h_mine, h_labels, purity = row
        return max(0.0, mi), max(0.0, h_mine), max(0.0, h_labels), purity


@contextmanager
def table_photos(
    table: Path, images: ImageSet, clusters: NDArray[np.int64], *, threads: int = 0
) -> Iterator[TablePhotos]:
    """The images (n,) and their clusters (n,) beside an imported table, matched as in memory.

    Images go by number: that of the photograph or that of the line, whichever more of them have.
    """
    with connect(table.parent, threads=threads) as connection:
        numbers = _numbers(images)
        connection.register("images", {"row": np.arange(len(numbers)), "number": numbers, "cluster": clusters})
        path = str(table).replace("'", "''")
        fits = {}
        for key in ("identifier", "line"):
            # of two images, or two lines, with one number the last counts
            connection.execute(f"""
                CREATE TEMP TABLE by_{key} AS
                SELECT row, cluster, max(line) AS line FROM read_parquet('{path}') JOIN
                (SELECT number, max(row) AS row, arg_max(cluster, row) AS cluster FROM images GROUP BY number)
                ON {key} = number GROUP BY row, cluster""")
            ((fits[key],),) = connection.execute(f"SELECT count(*) FROM by_{key}").fetchall()
        chosen = "line" if fits["line"] > fits["identifier"] else "identifier"
        connection.execute(f"ALTER TABLE by_{chosen} RENAME TO matched")
        photos = TablePhotos(connection)
        connection.execute(f"""
            CREATE TEMP VIEW photos AS SELECT row, cluster, table_.* EXCLUDE (line)
            FROM read_parquet('{path}') AS table_ JOIN matched USING (line)""")
        yield photos


def _numbers(images: ImageSet) -> NDArray[np.int64]:
    """The number that each image's name is, (n,); -1 where it is none."""
    if isinstance(images.ids, NumberedIds):
        return images.ids.numbers.astype(np.int64)
    plain = (int(i) if i.isdecimal() and len(i) <= DIGITS else -1 for i in images.ids)
    return np.fromiter(plain, dtype=np.int64, count=len(images))
