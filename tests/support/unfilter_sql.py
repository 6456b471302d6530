#!/usr/bin/env python3
"""The server's statements without their tenant filter, for the test that row-level security alone keeps tenants apart.

usage: unfilter_sql.py OUT.sql FILE.sql ...

Writes all files, in this order, into one, with every `organization_id = $1` replaced by `$1::uuid IS NOT NULL`. Filters on the look-up tables
stay: those have no row-level security.
"""
import re
import sys

LOOKUP_TABLES = {"certificate_names", "changes", "login_names", "organization_names"}
TOKEN = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO)\s+(?P<table>\w+)|(?P<filter>(?:\w+\.)?organization_id = \$1\b)")


def unfilter(text):
    table = None

    def replace(match):
        nonlocal table
        if match["table"]:
            table = match["table"]
            return match[0]
        return match[0] if table in LOOKUP_TABLES else "$1::uuid IS NOT NULL"

    return TOKEN.sub(replace, text)


def main():
    out, *names = sys.argv[1:]
    texts = [open(name, encoding="utf-8").read() for name in names]
    unfiltered = [unfilter(text) for text in texts]
    if texts == unfiltered:
        sys.exit("unfilter_sql.py: no filter found")
    with open(out, "w", encoding="utf-8") as file:
        file.write("\n".join(unfiltered))


main()
