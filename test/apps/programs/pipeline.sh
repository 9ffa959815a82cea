#!/bin/bash
# Processes that know nothing of each other but what comes through the pipe; the last one tells it to the client host.
# It listens a little later, or hears nobody at first.
until exec 3<>/dev/tcp/10.77.0.250/9000; do sleep 0.1; done
seq 1 1000000000 |
  sed 's/$/ of many/' |
  awk '{ print $1 }' |
  while read -r n; do echo "$n $((n * n))"; done |
  cat >&3
