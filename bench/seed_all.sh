#!/bin/sh
# Download all jobs of a project: request a token, list the jobs, run seed.sh for sixteen jobs concurrently.
# Usage: API=… PROJ=… PKEY=… seed_all.sh
set -eu
here=$(dirname "$0")
PTOKEN=$(curl -sSf -u "$PROJ:$PKEY" -d grant_type=client_credentials "$API/oauth/token" | jq -r '.data.accessToken')
export PTOKEN
page=0
while :; do
  ids=$(curl -sSf -H "Authorization: Bearer $PTOKEN" "$API/projects/$PROJ/jobs?page=$page" | jq -r '.data[].id')
  [ -n "$ids" ] || break
  echo "$ids"
  page=$((page + 1))
done | xargs -P16 -n1 "$here/seed.sh"
