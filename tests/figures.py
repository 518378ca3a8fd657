"""Figures of a CSV file with requests, computed without Samen.

    figures.py FILE ZONE all|category|week

Prints a JSON array with, for each group in order: its name, how many are open,
how many are closed, and the nearest-rank median and 90th percentile of how many
seconds the closed ones took. A time without an offset is of the zone; a day
begins at its start and ends at its end there. What was closed before it was
created is left out, as the import refuses it. Weeks are those of ISO 8601 in
Europe/Amsterdam.
"""

import csv
import json
import sys
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction
from math import ceil
from zoneinfo import ZoneInfo

AMSTERDAM = ZoneInfo("Europe/Amsterdam")


def instant(text, zone, end):
    """What a cell means: a moment, or a day."""
    if "T" not in text and " " not in text:
        day = date.fromisoformat(text) + timedelta(days=end)
        local = datetime(day.year, day.month, day.day, tzinfo=zone)
        return local.astimezone(timezone.utc) - timedelta(microseconds=end)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(timezone.utc)


def group(row, created, by):
    """What a row is counted under."""
    if by == "category":
        return "/".join(part for part in (row["category"].strip(), row["subcategory"].strip()) if part)
    if by == "week":
        year, week, _ = created.astimezone(AMSTERDAM).isocalendar()
        return f"{year}-W{week:02}"
    return ""


def rank(lasted, part):
    """The nearest rank of a part; 0 of nothing."""
    return lasted[ceil(part * len(lasted)) - 1] if lasted else 0


def main(path, zone, by):
    zone = ZoneInfo(zone)
    opened, lasted = {}, {}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            created = instant(row["created_at"].strip(), zone, 0)
            ended = (row.get("closed_at") or row.get("resolved_date") or "").strip()
            closed = ended and instant(ended, zone, 1)
            if closed and closed < created:
                continue
            name = group(row, created, by)
            opened.setdefault(name, 0)
            lasted.setdefault(name, [])
            if closed:
                lasted[name].append((closed - created) // timedelta(seconds=1))
            else:
                opened[name] += 1
    figures = []
    for name in sorted(opened):
        took = sorted(lasted[name])
        median, p90 = rank(took, Fraction(1, 2)), rank(took, Fraction(9, 10))
        figures.append([name, opened[name], len(took), median, p90])
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
