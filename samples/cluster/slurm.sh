#!/bin/bash
# Scores in 8 shards, each with a GPU; run from a folder that all machines share:
#   id=$(sbatch --parsable samples/cluster/slurm.sh runs/shop)
#   sbatch --dependency=afterok:$id --wrap "trec merge runs/shop"
#SBATCH --array=1-8
#SBATCH --gres=gpu:1
#SBATCH --requeue
set -eu
exec trec score "$1" --mode hier --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
