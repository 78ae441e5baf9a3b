#!/usr/bin/env bash
# A real Slurm on this one machine, for the tests that need one: munge, a controller and two nodes, without systemd.
#     tools/slurm_here.sh install          Debian's slurm-wlm and munge (as root; nothing is started)
#     tools/slurm_here.sh start FOLDER     a cluster whose every file is in FOLDER; prints the line to source
#     tools/slurm_here.sh stop FOLDER      end its daemons
# Partitions: main (default) and urgent, which preempts it (jobs of main are requeued). Nodes: n1, n2, two processors each.
set -euo pipefail

die() { echo "slurm_here: $*" >&2; exit 1; }
have() { command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && command -v sbatch >/dev/null; }

install() {
    if have; then return 0; fi
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die 'slurm-wlm is not installed, and only root on a Debian system can install it here'
    apt-get update -qq >&2 || die 'apt-get update failed: no package index can be reached'
    printf '#!/bin/sh\nexit 101\n' > /tmp/.policy-rc.$$ && chmod +x /tmp/.policy-rc.$$
    had=yes; [ -e /usr/sbin/policy-rc.d ] || { had=; mv /tmp/.policy-rc.$$ /usr/sbin/policy-rc.d; }   # packages start no daemons
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >&2 || die 'apt-get install slurm-wlm munge failed'
    [ -n "$had" ] || rm -f /usr/sbin/policy-rc.d
    rm -f /tmp/.policy-rc.$$
    have || die 'slurm-wlm was installed, but slurmctld, slurmd, munged or sbatch is missing'
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }

start() {
    have || die "Slurm is not installed: tools/slurm_here.sh install"
    [ "$(id -u)" = 0 ] || die 'a cluster of its own is started as root'
    local dir host
    mkdir -p "$1"; dir=$(cd "$1" && pwd); host=$(hostname -s)
    mkdir -p "$dir"/{state,spool,log,munge}
    chmod 700 "$dir/munge"; chmod 755 "$dir"
    dd if=/dev/urandom of="$dir/munge/key" bs=1024 count=1 2>/dev/null; chmod 600 "$dir/munge/key"
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" --num-threads=2 2>>"$dir/log/munged.start" || die "munged did not start: $(cat "$dir/log/munged.start" "$dir/munge/log" 2>/dev/null | tail -3)"
    cat > "$dir/slurm.conf" <<CONF
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
SlurmctldPort=$(free_port)
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld
SlurmdLogFile=$dir/log/slurmd-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0
JobRequeue=1
KillWait=5
MinJobAge=3600
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname=$host Port=$(free_port) CPUs=2 RealMemory=8000
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname=$host Port=$(free_port) CPUs=2 RealMemory=8000
PartitionName=main Nodes=n1,n2 Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=n1,n2 PriorityTier=10 MaxTime=INFINITE State=UP
CONF
    export SLURM_CONF="$dir/slurm.conf"
    slurmctld -c || die "slurmctld did not start: $(tail -3 "$dir/log/slurmctld")"
    local n
    for n in n1 n2; do mkdir -p "$dir/spool/$n"; slurmd -N $n || die "slurmd $n did not start: $(tail -3 "$dir/log/slurmd-$n")"; done
    for _ in $(seq 60); do
        if [ "$(sinfo -h -p main -t idle -o %D 2>/dev/null)" = 2 ]; then echo "export SLURM_CONF=$dir/slurm.conf"; return 0; fi
        sleep 1
    done
    sinfo >&2 || true
    tail -5 "$dir"/log/* >&2
    die 'the nodes did not come up'
}

stop() {  # by the ids that the daemons wrote, nodes first
    local f pid
    [ ! -f "$1/slurm.conf" ] || SLURM_CONF="$1/slurm.conf" scancel -u "$(id -un)" 2>/dev/null || true
    for f in "$1"/slurmd-*.pid "$1"/slurmctld.pid "$1"/munge/pid; do
        [ -f "$f" ] || continue
        pid=$(cat "$f")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 20); do kill -0 "$pid" 2>/dev/null || break; sleep .25; done
        kill -9 "$pid" 2>/dev/null || true
    done
}

case "${1:-}" in
    install) install ;;
    start) start "${2:?which folder?}" ;;
    stop) stop "${2:?which folder?}" ;;
    *) sed -n '2,6s/^# //p' "$0"; exit 2 ;;
esac
