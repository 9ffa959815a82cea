#!/bin/sh
# A fresh PostgreSQL, as Debian installs it, on port 5432 of every address. It refuses to run as root.
set -eu
data=/var/lib/postgresql/understudy-test
bin=/usr/lib/postgresql/15/bin
as_postgres="setpriv --reuid=postgres --regid=postgres --clear-groups --"
cd /var/lib/postgresql
mkdir -p -m 2775 /var/run/postgresql
chown postgres:postgres /var/run/postgresql
$as_postgres $bin/initdb --pgdata=$data --auth=trust --data-checksums --username=postgres --no-sync
echo "host all all all trust" >>$data/pg_hba.conf
exec $as_postgres $bin/postgres -D $data -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
