#!/bin/sh
# Download the outputs of one job with curl and jq, as in the UP42 documentation.
# Usage: API=… PROJ=… PTOKEN=… seed.sh JOB_ID   (writes to the current directory)
set -eu
JOB_ID=$1
JOB="$API/projects/$PROJ/jobs/$JOB_ID"
mkdir -p "$JOB_ID" && cd "$JOB_ID"

get() { curl -sSf -L -H "Authorization: Bearer $PTOKEN" "$@"; }

# Archive and GeoJSON of the job
RESULTS_URL=$(get "$JOB/downloads/results" | jq -j '.data.url')
curl -sSf -L "$RESULTS_URL" -o final_output.tar.gz
get "$JOB/outputs/data-json" | jq '.' > job_output.json

# Archive, GeoJSON and quicklooks of each task
get "$JOB/tasks" | jq '.' > job_tasks.json
jq -r '.data[] | .id' job_tasks.json > task_ids
while read -r TASK_ID; do
  mkdir -p "$TASK_ID"
  TASK_URL=$(get "$JOB/tasks/$TASK_ID/downloads/results" | jq -j '.data.url')
  curl -sSf -L "$TASK_URL" -o "$TASK_ID/task_output.tar.gz"
  get "$JOB/tasks/$TASK_ID/outputs/data-json" | jq '.' > "$TASK_ID/task_output.json"
  get "$JOB/tasks/$TASK_ID/outputs/quicklooks" | jq '.' > "$TASK_ID/task_quicklook.json"
  for NAME in $(jq -r '.data[]' "$TASK_ID/task_quicklook.json"); do
    get "$JOB/tasks/$TASK_ID/outputs/quicklooks/$NAME" -o "$TASK_ID/$NAME"
  done
done < task_ids
rm task_ids
