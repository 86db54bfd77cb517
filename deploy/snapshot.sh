#!/bin/sh
# Takes a snapshot of a directory, also while it is served and written to: sh snapshot.sh DATA BACKUPS KEEP
# The snapshot is taken under a temporary name, checked, and renamed only then. The newest KEEP snapshots are kept.
set -eu
data=$1 backups=$2 keep=$3
mkdir -p "$backups"
name=$(date -u +%Y%m%dT%H%M%SZ)
trap 'rm -rf "$backups/.unfinished"' EXIT
rm -rf "$backups/.unfinished"
vectordb snapshot --data "$data" "$backups/.unfinished"
vectordb check --data "$backups/.unfinished"
mv "$backups/.unfinished" "$backups/$name"
ls -1 "$backups" | grep -E '^[0-9]{8}T[0-9]{6}Z$' | sort -r | tail -n +"$((keep + 1))" | while read -r old; do
    rm -rf "${backups:?}/$old"
done
