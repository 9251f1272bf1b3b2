#!/bin/sh
# Makes hsstar's role, which is no superuser but may make the role that `hsstar sql` reads with, and its database.
# The Postgres image runs it once, on an empty volume.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$(cat "${HSSTAR_PASSWORD_FILE}")" --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
CREATE ROLE hsstar LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE hsstar OWNER hsstar;
GRANT SET ON PARAMETER temp_file_limit TO hsstar;
SQL
