#!/bin/bash
# Several machines of a SLURM cluster train one run together: one torchrun per machine, one process per GPU.
#
#   sbatch recipes/accelerate/slurm.sh recipes/multi_gpu.yaml --output /shared/out/multi_gpu
#
# All machines need the same virtual environment, the same files and a shared folder for the output. A job that was cut off
# goes on from its last checkpoint if the same command is submitted again. Without SLURM, start the last command on each machine by hand, with
# --nnodes 2 and the address of one machine as --rdzv-endpoint.
#SBATCH --job-name=sstext
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00

set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun torchrun \
  --nnodes "$SLURM_NNODES" \
  --nproc-per-node "$SLURM_GPUS_ON_NODE" \
  --rdzv-id "$SLURM_JOB_ID" \
  --rdzv-backend c10d \
  --rdzv-endpoint "$head:${PORT:-29500}" \
  --module sstext train "$@"
