#!/usr/bin/env bash
# The runs behind docs/results.md: all stages on real data with a small model.
#
#   bash scripts/first_results.sh DATA MODEL RUNS
#
# DATA holds mind/, games/ and industrial/; MODEL is a folder or a Hugging Face name. Takes
# about an hour and a half on two cores. Stopped, the same command continues.
set -euo pipefail
data=${1:?usage: bash scripts/first_results.sh DATA MODEL RUNS}
model=${2:?}
runs=${3:?}

show() {
  echo "\$ trec $*"
  local start=$SECONDS
  trec "$@" --quiet
  echo "  $((SECONDS - start)) s"
}

prepare() { # RUN, then arguments of prepare
  local run=$1
  shift
  show prepare "$@" --out "$run" --train-users 40 --valid-users 8 --test-users 100
}

all_stages() { # RUN STORE
  local run=$1 store=$2 mode scorer
  for mode in hier recurrent; do
    show summarize "$run" --mode $mode --model "$model" --max-new-tokens 48 --store "$store"
    show train "$run" --mode $mode --model "$model" --epochs 1 --negatives-per-positive 4 \
      --users-per-step 2 --learning-rate 5e-4
    show score "$run" --mode $mode --model "$model"
  done
  for scorer in random popularity recency bm25 cooccurrence; do
    show score "$run" --scorer $scorer --no-tune  # as they were when the results were made
  done
  show eval "$run" --markdown "$run/table.md"
}

prepare "$runs/mind-history" "$data/mind" --target history
all_stages "$runs/mind-history" "$runs/mind.sqlite"

prepare "$runs/mind-impression" "$data/mind" --target impression --negatives impression \
  --num-negatives 9
all_stages "$runs/mind-impression" "$runs/mind.sqlite"

prepare "$runs/industrial" "$data/industrial" --attributes title,brand --min-history 5
all_stages "$runs/industrial" "$runs/industrial.sqlite"

prepare "$runs/games" "$data/games" --min-history 10 --max-history 15 --split users \
  --negatives uniform --num-negatives 20
all_stages "$runs/games" "$runs/games.sqlite"
