#!/bin/bash
# Trains over machines with SLURM: sbatch train.sh. Submitted again, or requeued, it goes on where the last checkpoint was written.
#SBATCH --job-name=edge-tse-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

RUN=${RUN:?folder of the run, on a disk that all machines share}
DATA=${DATA:?folder of the speech corpus, on that disk too}
RECIPE=${RECIPE:-small}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# One launcher for each machine. When a process or a machine dies, the others stop too and all start again from the last checkpoint.
# It ends by itself before SLURM would end it.
srun torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" \
    --nproc-per-node=4 \
    --rdzv-id="$SLURM_JOB_ID" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$first:29400" \
    --max-restarts=3 \
    -m edge_tse train "$RECIPE" --output "$RUN" --data "$DATA" --resume --minutes 225
