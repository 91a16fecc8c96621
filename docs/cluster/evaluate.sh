#!/bin/bash
# Scores a list of trials over machines with SLURM: sbatch evaluate.sh. Submitted again, it scores only what is not yet scored.
#SBATCH --job-name=edge-tse-evaluate
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=01:00:00
#SBATCH --requeue
set -euo pipefail

TRIALS=${TRIALS:?list of trials, with its sounds on a disk that all machines share}
REPORT=${REPORT:?report to write}
address="tcp://$(hostname):8786"

dask scheduler --port 8786 --no-dashboard &
trap 'kill $(jobs -p)' EXIT

# As many processes as cores, one thread each: a worker computes one trial at a time. Each has a minute for its scheduler to answer.
srun dask worker "$address" --nworkers "$SLURM_CPUS_PER_TASK" --nthreads 1 --memory-limit 0 --no-dashboard --death-timeout 60 &

edge-tse evaluate --trials "$TRIALS" --output "$REPORT" --scheduler "$address"
