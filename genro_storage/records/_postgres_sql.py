"""The SQL of the PostgreSQL store: its tables, the function of a commit, and the statements that do without it."""

from __future__ import annotations

LAYOUT = 1
RACE = "GS409"
"""The error code of a record that came between judging and writing: the commit is tried again."""

PUT, DELETE, CHECK = 0, 1, 2

TABLES = """
CREATE TABLE {schema}.records (
    space text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, version bigint NOT NULL, expires_at bigint,
    data bytea NOT NULL, PRIMARY KEY (space, key));
ALTER TABLE {schema}.records ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX records_expiring ON {schema}.records (expires_at) WHERE expires_at IS NOT NULL;
CREATE SEQUENCE {schema}.record_versions;
CREATE TABLE {schema}.records_meta (name text PRIMARY KEY, value bigint NOT NULL);
INSERT INTO {schema}.records_meta VALUES ('layout', {layout});
"""

# The changes of one commit, or of many that have no record in common, in the order of (space, key), so that two calls
# never wait for each other. It answers with a version for each, or with pairs: the place of each change whose `expect`
# does not hold, from 1, and the version that is there; then nothing was written.
# First it judges, without a lock. A conflict is an answer, not an error, because errors fill the server's log. Then it
# writes, and each statement judges once more; if somebody came in between, all is undone and tried again.
# What must be absent and is not written is inserted and deleted: only the unique index holds off other inserters.
# Only new records, or such of any version: one statement, since a statement costs more than a row.
# Without force_generic_plan each call would be planned anew, for the lengths of its arrays: four times the work.
FUNCTION = """
CREATE OR REPLACE FUNCTION {schema}.records_commit_many(
    spaces text[], keys text[], kinds int[], expects bigint[], expiries bigint[], datas bytea[], moment bigint)
RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $body$
DECLARE
    c record; versions bigint[]; written bigint; refused bigint[];
BEGIN
    SELECT array_agg(ARRAY[j.i, j.actual]) INTO refused FROM (
        SELECT u.i, u.expect, coalesce((SELECT version FROM {schema}.records r WHERE r.space = u.space
                AND r.key = u.key AND (r.expires_at IS NULL OR r.expires_at > moment)), 0) AS actual
            FROM unnest(spaces, keys, expects) WITH ORDINALITY AS u(space, key, expect, i)
            WHERE u.expect IS NOT NULL OFFSET 0) AS j
        WHERE j.actual <> j.expect;
    IF refused IS NOT NULL THEN
        RETURN refused;
    END IF;
    versions := ARRAY(SELECT nextval('{schema}.record_versions') FROM generate_series(1, cardinality(keys)));
    IF 0 = ALL (kinds) AND (0 = ALL (expects)) IS NOT FALSE THEN
        INSERT INTO {schema}.records AS r (space, key, version, expires_at, data)
            SELECT * FROM unnest(spaces, keys, versions, expiries, datas)
            ON CONFLICT (space, key) DO UPDATE
            SET version = excluded.version, expires_at = excluded.expires_at, data = excluded.data
            WHERE r.expires_at <= moment OR (SELECT u.expect IS NULL
                FROM unnest(spaces, keys, expects) AS u(space, key, expect) WHERE u.space = r.space AND u.key = r.key);
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written < cardinality(keys) THEN
            RAISE EXCEPTION 'a record came in between' USING ERRCODE = '{race}';
        END IF;
        RETURN versions;
    END IF;
    FOR c IN SELECT * FROM unnest(spaces, keys, kinds, expects, expiries, datas, versions)
            AS u(space, key, kind, expect, expires_at, data, version) LOOP
        IF c.kind = 0 AND c.expect > 0 THEN
            UPDATE {schema}.records r SET version = c.version, expires_at = c.expires_at, data = c.data
                WHERE r.space = c.space AND r.key = c.key AND r.version = c.expect;
        ELSIF c.kind = 0 THEN
            INSERT INTO {schema}.records AS r (space, key, version, expires_at, data)
                VALUES (c.space, c.key, c.version, c.expires_at, c.data)
                ON CONFLICT (space, key) DO UPDATE
                SET version = excluded.version, expires_at = excluded.expires_at, data = excluded.data
                WHERE c.expect IS NULL OR r.expires_at <= moment;
        ELSIF c.expect = 0 THEN
            INSERT INTO {schema}.records AS r VALUES (c.space, c.key, 0, NULL, '')
                ON CONFLICT (space, key) DO UPDATE SET version = 0 WHERE r.expires_at <= moment;
            IF FOUND THEN
                DELETE FROM {schema}.records r WHERE r.space = c.space AND r.key = c.key;
            END IF;
        ELSIF c.kind = 1 THEN
            DELETE FROM {schema}.records r
                WHERE r.space = c.space AND r.key = c.key AND (c.expect IS NULL OR r.version = c.expect);
        ELSE
            PERFORM FROM {schema}.records r
                WHERE r.space = c.space AND r.key = c.key AND r.version = c.expect FOR SHARE;
        END IF;
        IF NOT FOUND AND c.expect IS NOT NULL THEN
            RAISE EXCEPTION 'a record came in between' USING ERRCODE = '{race}';
        END IF;
    END LOOP;
    RETURN versions;
END $body$;
"""

ALONE = "SELECT pg_advisory_xact_lock(hashtext($1))"
CALL = "SELECT {schema}.records_commit_many($1, $2, $3, $4, $5, $6, $7)"
# Not to_regclass: in a transaction that waited for another one's tables its cache may say that there are none.
HAS_TABLES = (
    "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = $1 AND c.relname = 'records_meta'"
)
HAS_FUNCTION = (
    "SELECT has_function_privilege(p.oid, 'EXECUTE') FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
    "WHERE n.nspname = $1 AND p.proname = 'records_commit_many'"
)

# OFFSET 0 keeps the planner from joining: it looks each record up by its key, however few it believes there are.
GET_MANY = (
    "SELECT u.i, r.data, r.version, r.expires_at FROM unnest($2::text[], $3::text[]) WITH ORDINALITY "
    "AS u(space, key, i) CROSS JOIN LATERAL (SELECT * FROM {schema}.records f WHERE f.space = u.space "
    "AND f.key = u.key AND (f.expires_at IS NULL OR f.expires_at > $1) OFFSET 0) AS r"
)
FEW = 8
"""Records that are looked up by a statement with a line for each: half the work of a join for the server."""
SCAN = (
    "SELECT key, data, version, expires_at FROM {schema}.records WHERE space = $1 AND key > $2 AND {until} "
    "AND (expires_at IS NULL OR expires_at > $4) ORDER BY key {order} LIMIT $5"
)
SWEEP = (
    "DELETE FROM {schema}.records WHERE (space, key) IN (SELECT space, key FROM {schema}.records "
    "WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)"
)

# Without the function: the same in one transaction.
LOCK = (
    "SELECT r.space, r.key, r.version, r.expires_at FROM {schema}.records r JOIN unnest($1::text[], $2::text[]) "
    "AS u(space, key) ON r.space = u.space AND r.key = u.key ORDER BY r.space, r.key FOR UPDATE OF r"
)
VERSIONS = "SELECT nextval('{schema}.record_versions') FROM generate_series(1, $1)"
INSERT = (
    "INSERT INTO {schema}.records (space, key, version, expires_at, data) "
    "SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[]) "
    "ON CONFLICT (space, key) DO NOTHING"
)
UPSERT = (
    "INSERT INTO {schema}.records (space, key, version, expires_at, data) "
    "SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[]) "
    "ON CONFLICT (space, key) DO UPDATE "
    "SET version = excluded.version, expires_at = excluded.expires_at, data = excluded.data"
)
REMOVE = (
    "DELETE FROM {schema}.records r USING unnest($1::text[], $2::text[]) AS u(space, key) "
    "WHERE r.space = u.space AND r.key = u.key"
)


def get_few(schema: str, count: int) -> str:
    """As `GET_MANY`, of so many records; parameters: the moment, then space and key of each."""
    return " UNION ALL ".join(
        f"SELECT {at}, data, version, expires_at FROM {schema}.records "
        f"WHERE space = ${2 * at} AND key = ${2 * at + 1} AND (expires_at IS NULL OR expires_at > $1)"
        for at in range(1, count + 1)
    )
