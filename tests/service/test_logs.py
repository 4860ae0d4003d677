from __future__ import annotations

import logging
import re
from datetime import datetime

from mien.service.logs import LineFormatter


def test_a_line_begins_with_its_time_and_offset() -> None:
    record = logging.LogRecord("mien.service", logging.WARNING, "", 0, "job %s", ("7",), None)
    time, rest = LineFormatter().format(record).split(" ", 1)
    assert rest == "WARNING mien.service: job 7"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", time)
    assert abs(datetime.fromisoformat(time).timestamp() - record.created) < 0.001
