#!/bin/sh
# Makes the database at the first start, then becomes the server.
set -eu
: "${PGDATA:?}" "${POSTGRES_USER:?}" "${POSTGRES_PASSWORD:?}"
if [ ! -d "$PGDATA" ]; then
    # Made under another name: a start that is cut short leaves nothing that looks finished.
    new=$PGDATA.new
    rm -rf "$new"
    mkdir -m 700 "$new"
    # Through a file: on a command line every process could read it.
    (umask 077 && printf '%s\n' "$POSTGRES_PASSWORD" > "$new.password")
    initdb --pgdata="$new" --username="$POSTGRES_USER" --pwfile="$new.password" --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    rm "$new.password"
    printf 'host all all all scram-sha-256\n' >> "$new/pg_hba.conf"
    printf "unix_socket_directories = '%s'\n" "$new" >> "$new/postgresql.auto.conf"
    # No network until the schema is there: who can connect finds it complete.
    pg_ctl --pgdata="$new" --wait --options="-c listen_addresses=''" start
    export PGHOST="$new" PGUSER="$POSTGRES_USER" PGPASSWORD="$POSTGRES_PASSWORD"
    database=${POSTGRES_DB:-$POSTGRES_USER}
    [ "$database" = postgres ] || createdb --maintenance-db=postgres "$database"
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [ -e "$file" ] || continue
        psql --dbname="$database" --set=ON_ERROR_STOP=1 --quiet --file="$file"
    done
    pg_ctl --pgdata="$new" --wait --mode=fast stop
    rm "$new/postgresql.auto.conf"
    mv "$new" "$PGDATA"
    unset PGHOST PGUSER PGPASSWORD
fi
exec postgres -c jit=off -c listen_addresses='*' -c unix_socket_directories="$PGDATA"
