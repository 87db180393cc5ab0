"""The audit log: who did what, as lines of JSON in the data folder. It never holds a prompt."""

import json
import logging
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from fromnoise.serve.seeing import request_id

BYTES, FILES = 10_000_000, 5  # of one file, and how many are kept


class Audit:
    """Adds lines to audit.jsonl."""

    def __init__(self, folder: Path):
        self.handler = RotatingFileHandler(
            folder / "audit.jsonl", maxBytes=BYTES, backupCount=FILES, encoding="utf-8", delay=True
        )

    def write(self, action: str, client: str, **facts: Any) -> None:
        """One line: when, who, what."""
        line = {"time": round(time.time(), 3), "action": action, "client": client}
        line |= {"request": request_id.get()} | facts
        record = logging.LogRecord("audit", logging.INFO, "", 0, json.dumps(line), None, None)
        self.handler.handle(record)

    def close(self) -> None:
        self.handler.close()
