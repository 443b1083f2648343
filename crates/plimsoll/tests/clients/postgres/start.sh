# The first start makes the database; what a start before that was killed in leaves is begun anew.
set -e
if ! [ -s "$PGDATA/made" ]; then
    rm -rf "$PGDATA"
    initdb --username=postgres --auth=trust --locale=C --encoding=UTF8 >/dev/null
    echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
    echo 'host all all all trust' >> "$PGDATA/pg_hba.conf"
    date > "$PGDATA/made"
fi
exec postgres
