#!/bin/sh
# One load after the other in a directory: sh files-work.sh DIRECTORY KIND TURNS. Each turn's microseconds become a line of "took".
set -e
directory=$1 kind=$2 turns=$3
mkdir -p "$directory"
cd "$directory"
rm -rf ./*

case $kind in
compile)
    for i in $(seq 10); do
        {
            echo '#include <stdio.h>'
            echo '#include <stdlib.h>'
            echo '#include <string.h>'
            for j in $(seq 60); do
                echo "int f${i}_$j(int n) { char b[64]; snprintf(b, sizeof b, \"%d\", n); return n < 2 ? (int)strlen(b) : f${i}_$j(n - 1) + $j; }"
            done
        } >"part$i.c"
    done
    ;;
blocks) head -c 67108864 /dev/zero >file ;;
esac

work() {
    case $kind in
    # A big tree read, packed and unpacked: thousands of new files, and they are removed again.
    tar)
        mkdir out
        tar cf - -C /usr include | tar xf - -C out
        rm -rf out
        ;;
    compile)
        for source in part*.c; do gcc -O1 -c "$source"; done
        ;;
    # 4 kB anywhere in 64 MB, 20,000 times.
    blocks)
        python3 -c '
import os, random
file = os.open("file", os.O_RDWR)
block = os.urandom(4096)
for i in range(20000):
    os.pwrite(file, block, random.randrange(16384) * 4096)'
        ;;
    esac
}

turn=0
while [ "$turn" -lt "$turns" ]; do
    turn=$((turn + 1))
    began=$(date +%s%N)
    work
    ended=$(date +%s%N)
    echo $(((ended - began) / 1000)) >>took
done
