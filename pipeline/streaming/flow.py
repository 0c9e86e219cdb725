"""How records travel: flat Arrow rows of the position of the stage that is next, and the record as
JSON."""

from collections.abc import Sequence

import pyarrow as pa

from corpus.ids import canonical_json
from stages.stage import Record

FLOW = pa.schema([pa.field("next_stage", pa.int32()), pa.field("record", pa.string())])


def flow(rows: Sequence[tuple[int, Record]]) -> pa.Table:
    """Records with the position of their next stage, as Arrow rows."""
    columns = [[position for position, _ in rows], [canonical_json(record) for _, record in rows]]
    return pa.table(columns, schema=FLOW)
