-- The database roles, and what this installation is. Runs as the login that migrates; every later file runs as guilder_owner.
--
-- Nobody logs in as one of these roles: a process connects as the installation's login and takes on the one that it needs.
--   guilder_owner   owns every table and function; only migrations use it
--   guilder_app     the processes; each migration grants what it needs, and no right to change or delete a transfer
--   guilder_vault   the vault alone: card tables, and nothing else
--   guilder_reader  SELECT for reports and checks
-- Roles belong to the server, not to the database, so they may exist already.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['guilder_owner', 'guilder_app', 'guilder_vault', 'guilder_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- another database of this server is migrated at the same moment
            END;
        END IF;
        IF NOT pg_has_role(current_user, wanted, 'MEMBER') OR current_setting('server_version_num')::int >= 160000 THEN
            -- From PostgreSQL 16 on, whoever makes a role may grant it, but is not yet allowed to take it on.
            EXECUTE format('GRANT %I TO %I', wanted, current_user);
        END IF;
    END LOOP;
END
$$;

GRANT CREATE, USAGE ON SCHEMA public TO guilder_owner;
GRANT USAGE ON SCHEMA public TO guilder_app, guilder_vault, guilder_reader;

-- A function may be run by those to whom a migration grants it, not by everybody.
ALTER DEFAULT PRIVILEGES FOR ROLE guilder_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- One row: which installation this database belongs to, and how often it has been started. Each start raises the
-- generation here and in a file outside the database, and so does a running system every few seconds; so a database restored from a
-- backup shows itself (DESIGN section 5).
CREATE TABLE installation (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id           text COLLATE "C" NOT NULL,
    generation   bigint NOT NULL CHECK (generation >= 0),
    created_at   bigint NOT NULL,
    -- Since when this database may be older than what was done outside, and why; null: it is not. Nothing is sent meanwhile.
    quarantined_at    bigint,
    quarantine_reason text
);

ALTER TABLE installation OWNER TO guilder_owner;
GRANT SELECT, INSERT, UPDATE ON installation TO guilder_app;
GRANT SELECT ON installation TO guilder_vault, guilder_reader;
