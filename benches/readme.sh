#!/usr/bin/env bash
# Measures and puts the table into README.md, between its marks. Rows by name, all without.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --quiet
table=$(mktemp)
trap 'rm -f "$table"' EXIT
./target/release/drupe bench --json "$@" | python3 -c '
import json, sys
def ns(v): return "n/a" if v is None else f"{v:,.0f}" if v >= 100 else f"{v:.1f}"
print("| operation | native ns | drupe ns | drupe / native | 95 % | budget |")
print("|---|---:|---:|---:|---|---:|")
for r in json.load(sys.stdin):
    ratio = "n/a" if r["ratio"] is None else "{:.2f}".format(r["ratio"])
    span = "" if r["interval"] is None else "{:.2f} to {:.2f}".format(*r["interval"])
    budget = "" if r["budget"] is None else "{:g}".format(r["budget"])
    print("|", " | ".join([r["name"], ns(r["native_ns"]), ns(r["emulated_ns"]), ratio, span, budget]), "|")
' > "$table"
awk -v table="$table" '
/^<!-- bench: begin/ { print; while ((getline line < table) > 0) print line; skip = 1 }
/^<!-- bench: end/ { skip = 0 }
!skip { print }
' README.md > README.new
mv README.new README.md
