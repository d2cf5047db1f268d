#!/usr/bin/env bash
# The whole pipeline at the smoke scale in a copy of the working tree, so that no result of another scale is touched.
# usage: bash workflow/smoke.sh DIRECTORY [dvc|snakemake]
set -euo pipefail
copy=$1 engine=${2:-dvc}
source=$(pwd)
started=$SECONDS

mkdir -p "$(dirname "$copy")"
exec 9>"$copy.lock"
flock --nonblock 9 || { echo "smoke: another run is at work in $copy; wait for it, or name another directory" >&2; exit 1; }
rm -rf "$copy"
mkdir -p "$copy"
# What git has or would take, as it stands now, without results.
git ls-files --cached --others --exclude-standard -z -- . ':!reports' ':!metrics' ':!dvc.lock' |
  while IFS= read -r -d '' file; do if [ -e "$file" ]; then printf '%s\0' "$file"; fi; done |
  tar --null --files-from=- --create | tar --extract --directory "$copy"
cd "$copy"
git init --quiet
export PYTHONPATH="$PWD/src" MLFLOW_TRACKING_URI="sqlite:///mlflow.db"
# Many stages compute for no longer than MLflow takes to start: they write files, which one process brings in.
export HEAD3D_TRACKING="${HEAD3D_TRACKING:-files}"

head3d scale smoke
if [ "$engine" = dvc ]; then dvc repro; else snakemake --cores "$(env -u OMP_NUM_THREADS nproc)"; fi
head3d sync
if [ "$HEAD3D_TRACKING" = files ]; then head3d runs import --remove; fi
cd "$source"
echo "smoke: $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s; its numbers mean nothing"
echo "report: $(realpath "$copy")/reports/index.html"
